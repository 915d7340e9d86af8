"""Plug-ins: one file is one data set; importing this package imports no torch."""
