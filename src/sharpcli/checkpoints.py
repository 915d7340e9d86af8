"""Self-describing files: read, write, verify, and take in files that others wrote.

A checkpoint of sharpcli is what `torch.save` makes of

    {"format": "sharpcli", "format_version": 1, "state_dict": {...}, "metadata": {...}}

with plain tensors, numbers and text only. Nothing is ever unpickled as code: files are opened with
`weights_only=True` or as safetensors, and model code that a file merely names is not run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import files
from sharpcli.errors import InputError, NumericalError

FORMAT_VERSION = 1
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net", "params")
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.", "net.")
_NOT_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and what is known about them.

    Attributes:
        path: File they came from.
        state: Tensors by name, parameters and buffers, on the CPU.
        metadata: Model, data, loss, recipe, step, initial weights and losses of a run; {} for a foreign file.
        container: What kind of file it was, in words.
    """

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    container: str = "sharpcli checkpoint"

    def sha256(self) -> str:
        """Return the hash of names, shapes and values of all tensors; the container does not matter."""
        return state_sha256(self.state)

    def parameter_names(self) -> list[str]:
        """Return the names of the trainable tensors; for a foreign file all but BatchNorm's statistics."""
        recorded = self.metadata.get("parameters")
        if recorded is not None:
            return list(recorded)
        return [
            name
            for name, tensor in self.state.items()
            if tensor.is_floating_point() and name.rpartition(".")[2] not in _NOT_PARAMETERS
        ]

    def require_finite(self) -> None:
        """Raise NumericalError if any tensor holds NaN or infinity."""
        for name, tensor in self.state.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise NumericalError(
                    f"The weights in {self.path} are not finite: '{name}' holds NaN or infinity.",
                    "The run has diverged; use an earlier checkpoint or train with a lower --lr or with --clip.",
                )


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the hash of names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; equal contents give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    files.write_object(
        path, {"format": "sharpcli", "format_version": FORMAT_VERSION, "state_dict": tensors, "metadata": dict(metadata)}
    )


def locate(path: str | Path) -> Path:
    """Return the checkpoint file that a path means; a run folder means its final.pt.

    Raises:
        InputError: There is no such file.
    """
    try:
        place = Path(path).expanduser()
    except RuntimeError:  # There is no such user.
        place = Path(path)
    try:
        is_folder = bool(str(path)) and place.is_dir()
        is_file = bool(str(path)) and place.is_file()
    except OSError as error:
        raise InputError(f"Cannot read {place}: {error.strerror or error}.", "Check the path.") from error
    if is_folder:
        final = place / "final.pt"
        if final.is_file():
            return final
        inside = sorted(place.glob("*/final.pt"))
        hint = f"Name one of its runs: {', '.join(str(found.parent) for found in inside)}." if inside else "Name a file."
        raise InputError(f"The folder {place} holds no final.pt.", hint)
    if not is_file:
        raise InputError(f"There is no file '{path}'.", "Check the path, or make a checkpoint with 'sharpcli train'.")
    return place


def read(path: str | Path) -> Checkpoint:
    """Open a checkpoint: ours, a plain or wrapped state dict, or safetensors.

    Raises:
        InputError: The file is missing, damaged, of an unknown version, holds no tensors, or needs code to open.
    """
    place = locate(path)
    if files.is_safetensors(place):
        return Checkpoint(place, files.read_safetensors(place), container="safetensors")
    content = files.read_object(place)
    if isinstance(content, dict) and content.get("format") == "sharpcli":
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{place} has checkpoint format {version}; this sharpcli reads format {FORMAT_VERSION}.",
                "Install the version of sharpcli that wrote it.",
            )
        return _ours(place, content)
    return _foreign(place, content)


def _ours(place: Path, content: dict[str, Any]) -> Checkpoint:
    """Take in what `write` wrote; whoever else wrote such a file may have left something out."""
    state, metadata = content.get("state_dict"), content.get("metadata")
    sound = isinstance(state, dict) and bool(state) and all(isinstance(part, Tensor) for part in state.values())
    records: dict[str, Any] = metadata if isinstance(metadata, dict) else {"model": None}
    sound = sound and all(isinstance(records.get(key, {}), dict) for key in ("model", "data", "recipe", "final", "init"))
    sound = sound and ("init" not in records or {"path", "sha256"} <= set(records["init"]))
    if not sound or not set(records.get("parameters") or ()) <= set(state or ()):
        raise InputError(
            f"{place} says that it is a sharpcli checkpoint, but its contents are not.", "Write it again with 'sharpcli train'."
        )
    return _dense(Checkpoint(place, state or {}, records))


def _dense(checkpoint: Checkpoint) -> Checkpoint:
    """Refuse tensors that are not stored entry by entry, such as sparse ones."""
    for name, tensor in checkpoint.state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise InputError(
                f"'{name}' in {checkpoint.path} is sparse, quantized, complex or without data.",
                "Save it as a plain tensor of real numbers, such as with .to_dense().",
            )
    return checkpoint


def _foreign(place: Path, content: Any) -> Checkpoint:
    """Find the tensors in a file that sharpcli did not write."""
    for key in (None, *_WRAPPERS):
        candidate = content if key is None else content.get(key) if isinstance(content, dict) else None
        if isinstance(candidate, dict) and candidate and all(isinstance(value, Tensor) for value in candidate.values()):
            kind = "state dict" if key is None else f"state dict under '{key}'"
            return _dense(Checkpoint(place, {str(name): tensor for name, tensor in candidate.items()}, container=kind))
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
    raise InputError(
        f"{place} holds no state dict (found: {keys}).", f"Weights are looked for at the top and under {', '.join(_WRAPPERS)}."
    )


def fit(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load the checkpoint's tensors into a model, exactly; wrappers' name prefixes are taken off if that makes all fit.

    Raises:
        InputError: A tensor is missing, left over or of another shape; the first one is named.
    """
    wanted = model.state_dict()
    state = _strip(checkpoint.state, set(wanted))
    problems = [f"'{name}' is missing from the file" for name in wanted if name not in state]
    problems += [f"'{name}' of the file is not in the model" for name in state if name not in wanted]
    problems += [
        f"'{name}' is {tuple(state[name].shape)} in the file and {tuple(wanted[name].shape)} in the model"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more such problems" if len(problems) > 1 else ""
        raise InputError(
            f"{checkpoint.path} does not fit the model: {problems[0]}{more}.",
            "Give the model it was trained with: --model and, for its size, --model-arg.",
        )
    model.load_state_dict(state)


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under names without the prefixes that wrappers put before all of them."""
    names = list(state)
    while prefix := next((known for known in _PREFIXES if names and all(name.startswith(known) for name in names)), None):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _strip(state: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Take common prefixes off the names until they match the model's, or give the names back as they were."""
    names = {name: name for name in state}
    while set(names) != wanted:
        prefix = next((known for known in _PREFIXES if names and all(name.startswith(known) for name in names)), None)
        if prefix is None:
            return state
        names = {name.removeprefix(prefix): original for name, original in names.items()}
    return {name: state[original] for name, original in names.items()}


def initial_weights(checkpoint: Checkpoint) -> Checkpoint:
    """Return the weights the checkpoint's run started from.

    Raises:
        InputError: The checkpoint names none, or the file is not the one it names.
    """
    record = checkpoint.metadata.get("init")
    if record is None:
        raise InputError(
            f"{checkpoint.path} does not say where its initial weights are.",
            "Give them with --init FILE, or use a checkpoint made by 'sharpcli train'.",
        )
    place = checkpoint.path.parent / record["path"]
    if not place.is_file():
        raise InputError(
            f"The initial weights of {checkpoint.path} are not at {place} any more.", "Give them with --init FILE."
        )
    init = read(place)
    if init.sha256() != record["sha256"]:
        raise InputError(
            f"{init.path} is not the file that {checkpoint.path} started from (its hash differs).",
            "Give the right one with --init FILE.",
        )
    return init


def saved_steps(place: Path, final: Checkpoint) -> list[Checkpoint]:
    """Return the saved steps of a run in order, if a run folder was named and has any."""
    if not place.is_dir():
        return []
    steps = sorted((read(path) for path in place.glob("step-*.pt")), key=_step)
    if steps and steps[-1].sha256() != final.sha256():
        steps.append(final)
    return steps


def _step(checkpoint: Checkpoint) -> int:
    """Return the number of updates that a saved step says, or else that its file is named after.

    Raises:
        InputError: Neither is a number.
    """
    step = checkpoint.metadata.get("step", checkpoint.path.stem.partition("-")[2])
    try:
        return int(step)
    except (TypeError, ValueError):
        raise InputError(f"{checkpoint.path} does not say after how many updates it was saved.", "Name it step-N.pt.") from None
