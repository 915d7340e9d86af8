"""Plug-ins: one file is one architecture, with a function `build`; importing this package imports no torch."""
