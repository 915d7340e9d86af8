"""Data sets: `resolve` loads one from what --data says.

`readers/` are the plug-ins: one file reads one data set, or one format of the user's own files, and a new file there is a
new name for --data. Importing this package imports no torch.
"""
