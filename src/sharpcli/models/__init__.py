"""Plug-ins: one file is one architecture; importing this package imports no torch."""
