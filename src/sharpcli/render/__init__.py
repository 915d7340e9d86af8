"""Results as tables and figures. This package does not import torch."""
