"""Plug-ins: each file is one random change of images; it draws numbers for each sample and applies them."""
