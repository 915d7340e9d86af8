"""Plug-ins: one file is one method that changes an update, and combines with the others."""
