"""Plug-ins: one file is one mode of training, as defaults of a recipe."""
