"""Plug-ins: one file with a function `load` reads one data set; importing this package does not import torch."""
