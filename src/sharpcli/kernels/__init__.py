"""Convolutions, BatchNorm and linear layers with faster second derivatives than those of torch."""
