"""The data of a checkpoint: those that the user names, else those that it was trained on."""

from __future__ import annotations

from sharpcli import progress
from sharpcli.checkpoints import Checkpoint
from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError
from sharpcli.loading.recorded import blaming, given_or_recorded, loss_name
from sharpcli.settings import AnalysisSettings


def load_data(checkpoint: Checkpoint, settings: AnalysisSettings) -> DataSplits:
    """Return the data that the settings name, else those the checkpoint was trained on."""
    spec, arguments, _ = given_or_recorded(checkpoint, "data", settings.data, settings.data_arg)
    if spec is None:
        raise InputError(
            f"{checkpoint.path} does not say which data it was trained on.",
            "Name them with --data, such as --data cifar10 or --data npz:FILE.",
        )
    loss = loss_name(checkpoint, settings.loss)
    try:
        with blaming(checkpoint, "data", on_file=settings.data is None and not settings.data_arg):
            data = resolve(spec, root=settings.data_root, download=settings.download, arguments=arguments, loss=loss)
    except InputError as error:
        if settings.data is None:
            error.hint = f"{checkpoint.path} was trained on '{spec}'; say where that is now with --data or --data-root."
        raise
    fingerprint = checkpoint.metadata.get("data", {}).get("fingerprint")
    if settings.data is None and fingerprint is not None and fingerprint != data.fingerprint():
        progress.warn(f"The data '{spec}' are not the ones {checkpoint.path} was trained on: their fingerprint differs.")
    return data
