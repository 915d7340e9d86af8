"""Results as tables and figures; no torch."""
