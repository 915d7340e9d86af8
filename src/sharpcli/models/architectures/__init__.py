"""Plug-ins: one file with a function `build` defines one architecture; importing this package does not import torch."""
