"""Plug-ins: one file is one way to change images at random, as numbers drawn for each sample and what is done with them."""
