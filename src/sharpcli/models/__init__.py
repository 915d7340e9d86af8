"""Models; `resolve` builds the model that --model names.

`architectures/` contains the plug-ins: one file defines one architecture, and a new file there adds a new name for --model.
`blocks/` contains the parts that several architectures share. Importing this package does not import torch.
"""
