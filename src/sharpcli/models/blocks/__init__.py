"""Parts that several architectures share: layers, blocks, initial weights; importing this package does not import torch."""
