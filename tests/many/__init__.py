"""Runs of several processes, as torchrun starts them, compared with runs of one process."""
