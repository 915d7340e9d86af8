"""Plug-ins: one file is one definition of sharpness."""
