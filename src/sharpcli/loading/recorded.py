"""What a checkpoint records of its training is used where the user names nothing; errors then blame the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import InputError, SettingsError
from sharpcli.settings.losses import LossSpec
from sharpcli.user_code import never_run


def given_or_recorded(
    checkpoint: Checkpoint, what: str, spec: str | None, arguments: tuple[str, ...]
) -> tuple[str | None, tuple[str, ...], bool]:
    """Return the spec and the arguments to use for "model" or "data", and whether the spec is the recorded one.

    Args:
        checkpoint: Whose record is used where nothing is given.
        what: "model" or "data".
        spec: What the user names, if anything.
        arguments: What the user gives; the recorded arguments are used only with the recorded spec.
    """
    recorded = checkpoint.metadata.get(what, {})
    own = spec is None or spec == recorded.get("spec")
    return spec or recorded.get("spec"), arguments or (tuple(recorded.get("arguments", ())) if own else ()), own


def loss_name(checkpoint: Checkpoint, asked: str | None) -> str:
    """Return the requested loss, else that of the checkpoint, else cross-entropy; with its options.

    Raises:
        InputError: The checkpoint records a loss that is code or that is not known.
    """
    name = str(LossSpec.parse(asked)) if asked is not None else recorded_loss(checkpoint)
    if asked is None and LossSpec.parse(name).is_code:
        raise never_run(str(checkpoint.path), "loss", name)
    return name


def recorded_loss(checkpoint: Checkpoint) -> str:
    """Return the loss that the checkpoint records, else cross-entropy; with its options."""
    with blaming(checkpoint, "loss", on_file=True):
        return str(LossSpec.parse(str(checkpoint.metadata.get("loss") or "ce")))


@contextmanager
def blaming(checkpoint: Checkpoint, what: str, *, on_file: bool) -> Iterator[None]:
    """Blame the file for a setting that cannot be used, where it was recorded there and not given by the user."""
    try:
        yield
    except SettingsError as error:
        if not on_file:
            raise
        message = f"{checkpoint.path} records {'data' if what == 'data' else f'a {what}'} that cannot be used: {error.message}"
        raise InputError(message, f"Give it with --{what}.") from error
