"""Plug-ins: one file reads one data set, with a function `load`; importing this package imports no torch."""
