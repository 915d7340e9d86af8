"""Plug-ins: one file is one way to train, as defaults of a recipe."""
