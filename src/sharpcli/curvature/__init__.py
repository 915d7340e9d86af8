"""From an objective to symmetric operators."""
