"""The state that a training run resumes from, and checks of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor

from sharpcli import checkpoints, files, progress
from sharpcli.checkpoints import STATE
from sharpcli.errors import InputError, first_line
from sharpcli.saved_state import SavedState

_OTHER = "Use sharpcli train --resume RUN without other settings, or use --overwrite."
_ANEW = "Train it again with --overwrite."
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_SLOTS = {
    "sgd": (("momentum_buffer",),),
    "adam": (_MOMENTS,),
    "adamw": (_MOMENTS,),
    "rmsprop": (("step", "square_avg"), ("step", "square_avg", "momentum_buffer")),
}

_Count = Annotated[int, files.Range(0)]


class OptimizerState(TypedDict):
    """The tensors of an optimizer for each parameter, by its number; the optimizer's settings come from the plan."""

    state: dict[int, dict[str, Tensor | None]]


class AverageState(TypedDict):
    """A running average of the weights."""

    kind: str
    count: _Count
    means: list[Tensor]


class Line(TypedDict):
    """A line of a record."""

    step: _Count


class MetricsLine(Line):
    """A line of metrics.jsonl."""

    train_loss: float


class Lines(TypedDict):
    """The records of a run by their names."""

    metrics: list[MetricsLine]
    distances: list[Line]
    sharpness: list[Line]
    critical: NotRequired[list[Line]]
    measures: NotRequired[list[Line]]


class RunState(TypedDict):
    """The complete state from which a run continues."""

    random: Tensor
    cuda_random: NotRequired[Tensor]
    model: dict[str, object]
    optimizer: OptimizerState
    averages: list[AverageState]
    eigenvector: Tensor | None
    preconditioned_eigenvector: NotRequired[Tensor | None]
    updates: _Count
    seconds: Annotated[float, files.Range(0)]
    records: Lines


def write_state(folder: Path, identity: dict[str, Any], parts: dict[str, Any], device: torch.device) -> None:
    """Write all that is needed to continue exactly: the parts of the run, and the random states.

    Raises:
        InputError: The state cannot be written.
    """
    state = {"random": torch.get_rng_state(), **parts}
    if device.type == "cuda":
        state["cuda_random"] = torch.cuda.get_rng_state(device)
    _saved(folder, identity).write(state)


def read_state(folder: Path, identity: dict[str, Any], device: torch.device) -> RunState:
    """Return the last saved parts of the run, and restore the random states.

    Raises:
        InputError: They cannot be read, or are not the state of a run.
        SettingsError: They belong to another model, data, plan or seed.
    """
    state = _saved(folder, identity).read(RunState)
    if state is None:
        raise unusable(folder, "the file is missing")
    try:
        require_like(state["random"], torch.get_rng_state(), "random")
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and device.type == "cuda":
            require_like(state["cuda_random"], torch.cuda.get_rng_state(device), "cuda_random")
            torch.cuda.set_rng_state(state["cuda_random"], device)
    except (files.ContentError, RuntimeError) as error:  # RuntimeError: torch refuses the generator state.
        raise unusable(folder, first_line(error)) from error
    return state


def unusable(folder: Path, reason: str) -> InputError:
    """Return the error for a state that no run can continue from."""
    return _saved(folder, {}).unusable(reason)


def require_same_run(folder: Path, saved: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse to continue a run that was begun with other settings.

    Raises:
        SettingsError: They differ; the message names them.
    """
    _saved(folder, identity).require_same(saved)


_LATER: dict[str, Any] = {"track_critical": None, "track_measures": []}  # What plans of earlier versions did not have.


def _saved(folder: Path, identity: Mapping[str, Any]) -> SavedState:
    def upgrade(saved: dict[str, Any]) -> dict[str, Any]:
        """Give settings their present names, and drop those that are no longer part of a run."""
        present = {name: value for name, value in checkpoints.with_present_names(saved).items() if name in identity}
        plan, known = present.get("plan"), identity.get("plan", {})
        if isinstance(plan, Mapping):
            present["plan"] = _LATER | {name: value for name, value in plan.items() if name in known}
        return present

    return SavedState(
        folder / STATE, identity, work="run", if_other=_OTHER, if_damaged=_ANEW, place=folder, sealed=False, upgrade=upgrade
    )


def require_like(tensor: Tensor, own: Tensor, name: str) -> None:
    """Refuse a tensor from a file whose shape or type differs from that of the tensor that it replaces.

    Raises:
        ContentError: Shape, type or memory layout differs.
    """
    if tensor.layout != torch.strided or (tensor.shape, tensor.dtype) != (own.shape, own.dtype):
        raise files.ContentError(f"'{name}' does not have the shape {tuple(own.shape)} and the type {own.dtype}")


def require_alike(tensors: Mapping[str, object], own: Mapping[str, object], name: str) -> None:
    """Refuse tensors from a file that do not match the present ones; other values that modules store are not checked.

    Raises:
        ContentError: A name is missing or unexpected, or a shape or a type differs.
    """
    if set(tensors) != set(own):
        raise files.ContentError(f"'{name}' holds other tensors")
    for key, tensor in own.items():
        part = tensors[key]
        if isinstance(tensor, Tensor) and isinstance(part, Tensor):
            require_like(part, tensor, f"{name}.{key}")
        elif isinstance(tensor, Tensor):
            raise files.ContentError(f"'{name}.{key}' is not a tensor")


def require_slots(parts: Mapping[str, Tensor | None], parameter: Tensor, optimizer: str) -> None:
    """Refuse tensors that do not match those of the optimizer for a parameter.

    Raises:
        ContentError: A name, a shape or a type differs.
    """
    if set(parts) not in map(set, _SLOTS[optimizer]):
        raise files.ContentError("'optimizer' holds other tensors")
    for name, part in parts.items():
        if part is not None:
            require_like(part, torch.zeros(()) if name == "step" else parameter, f"optimizer.{name}")
        elif optimizer != "sgd":
            raise files.ContentError(f"'optimizer.{name}' is missing")


def forget_state(folder: Path) -> None:
    """Remove the state to resume from."""
    files.remove(folder / STATE)


def write_or_warn(write: Callable[[], None], name: str) -> None:
    """Write something that training does not need; if this fails, warn and continue."""
    try:
        write()
    except InputError as error:
        progress.warn(f"Could not save {name}; training continues: {error.message}")
