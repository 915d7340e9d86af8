"""Plug-ins: each file is one method that changes an update; methods can be combined."""
