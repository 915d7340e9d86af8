"""Model, data and loss that a checkpoint records: they are used if the user names none, and errors then name the file."""

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
    """Return the spec and the arguments to use for the model or the data, and whether the spec is the recorded one.

    The recorded arguments are used if the user gives none and the spec is the recorded one.

    Args:
        checkpoint: The checkpoint with the record.
        what: "model" or "data".
        spec: The spec that the user gives; None for the recorded one.
        arguments: The arguments that the user gives, as "key=value" texts.

    Returns:
        The spec, None if there is none; the arguments; and True if the user gives no other spec than the recorded one.
    """
    recorded = checkpoint.metadata.get(what, {})
    own = spec is None or spec == recorded.get("spec")
    return spec or recorded.get("spec"), arguments or (tuple(recorded.get("arguments", ())) if own else ()), own


def loss_name(checkpoint: Checkpoint, asked: str | None) -> str:
    """Return the name of the requested loss, else of the recorded loss, else of cross-entropy; with its options.

    Raises:
        InputError: The checkpoint records a loss that is code or unknown, and no loss is requested.
        SettingsError: The requested loss is unknown.
    """
    name = str(LossSpec.parse(asked)) if asked is not None else recorded_loss(checkpoint)
    if asked is None and LossSpec.parse(name).is_code:
        raise never_run(str(checkpoint.path), "loss", name)
    return name


def recorded_loss(checkpoint: Checkpoint) -> str:
    """Return the name of the loss that the checkpoint records, else of cross-entropy; with its options.

    Raises:
        InputError: The recorded loss is unknown.
    """
    with blaming(checkpoint, "loss", on_file=True):
        return str(LossSpec.parse(str(checkpoint.metadata.get("loss") or "ce")))


@contextmanager
def blaming(checkpoint: Checkpoint, what: str, *, on_file: bool) -> Iterator[None]:
    """Convert a SettingsError inside the block to an InputError that names the file, if the file records the setting.

    Args:
        checkpoint: The checkpoint with the record.
        what: "model", "data" or "loss", which is also the name of the option that replaces the record.
        on_file: Whether the setting is recorded in the file and not given by the user.

    Raises:
        InputError: A recorded setting cannot be used.
    """
    try:
        yield
    except SettingsError as error:
        if not on_file:
            raise
        message = f"{checkpoint.path} records {'data' if what == 'data' else f'a {what}'} that cannot be used: {error.message}"
        raise InputError(message, f"Give it with --{what}.") from error
