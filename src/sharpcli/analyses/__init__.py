"""The Python API: one function for each command, of the same name."""
