"""Plug-ins: each file is one training mode, given as default values of settings."""
