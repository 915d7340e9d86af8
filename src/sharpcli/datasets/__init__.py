"""Data sets; `resolve` loads the data set that --data names.

`readers/` contains the plug-ins: one file reads one data set, or one format of the user's files. A new file there adds a
new name for --data. Importing this package does not import torch.
"""
