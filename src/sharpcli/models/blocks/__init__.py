"""What several architectures are made of: layers, residual blocks, first weights; importing this package imports no torch."""
