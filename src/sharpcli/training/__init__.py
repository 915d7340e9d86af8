"""The training loop, batches and recipes."""
