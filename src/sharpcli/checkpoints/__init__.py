"""Checkpoint files: read, write and verify them, and read weights from files of other programs.

A checkpoint of sharpcli is written by `torch.save` from

    {"format": "sharpcli", "format_version": 3, "state_dict": {...}, "metadata": {...}, "optimizer": {...}}

The last entry is the state of the optimizer at these weights; it is missing where there is none. A file contains plain
tensors, numbers and text only. Code is never unpickled: files are opened with
`weights_only=True` or as safetensors, and model code is not run only because a file names it.
"""

from sharpcli.checkpoints._checkpoint import LIVE, Checkpoint, state_sha256, write
from sharpcli.checkpoints._fitting import fit, fitted
from sharpcli.checkpoints._folders import LAST_GOOD, SETTINGS, STATE, RunFolder, how_to_go_on, run_in, runs_below
from sharpcli.checkpoints._metadata import Losses, with_present_names
from sharpcli.checkpoints._optimizer import OptimizerState
from sharpcli.checkpoints._parts import Parts, parts, parts_of_model, require_finite, same_parameters
from sharpcli.checkpoints._prefixes import aligned, of_a_loss
from sharpcli.checkpoints._reading import is_something_else, locate, read, there
from sharpcli.checkpoints._runs import initial_weights, saved_steps, whole_run

__all__ = [
    "LIVE",
    "LAST_GOOD",
    "SETTINGS",
    "STATE",
    "Checkpoint",
    "Losses",
    "OptimizerState",
    "Parts",
    "RunFolder",
    "aligned",
    "fit",
    "fitted",
    "how_to_go_on",
    "initial_weights",
    "is_something_else",
    "locate",
    "of_a_loss",
    "parts",
    "parts_of_model",
    "read",
    "require_finite",
    "run_in",
    "runs_below",
    "same_parameters",
    "saved_steps",
    "whole_run",
    "state_sha256",
    "there",
    "with_present_names",
    "write",
]
