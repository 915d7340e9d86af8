"""Models: `resolve` builds one from what --model says.

`architectures/` are the plug-ins: one file is one architecture, and a new file there is a new name for --model. `blocks/`
has what several architectures are made of. Importing this package imports no torch.
"""
