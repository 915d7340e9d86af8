"""Loading of a checkpoint for an analysis: its weights, its model, its data, and the check of its loss."""

from sharpcli.loading.checkpoint import LoadedCheckpoint, load_checkpoint, rebuild
from sharpcli.loading.data import load_data
from sharpcli.loading.live import LiveModel, Place, live_or_file, live_or_files, weights_in_memory
from sharpcli.loading.loss_check import check_loss, losses_agree, stored_loss
from sharpcli.loading.model import num_outputs, output_difference
from sharpcli.loading.named_model import named_model
from sharpcli.loading.paths import checkpoint_paths, each_checkpoint, require_path
from sharpcli.loading.subject import label, subject_of

__all__ = [
    "LiveModel",
    "LoadedCheckpoint",
    "Place",
    "check_loss",
    "require_path",
    "checkpoint_paths",
    "each_checkpoint",
    "label",
    "live_or_file",
    "live_or_files",
    "load_checkpoint",
    "load_data",
    "losses_agree",
    "named_model",
    "num_outputs",
    "output_difference",
    "rebuild",
    "stored_loss",
    "subject_of",
    "weights_in_memory",
]
