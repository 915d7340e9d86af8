"""Load the weights of a file into a model: torch decides whether they fit, and the error says what differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpcli import progress
from sharpcli.checkpoints._checkpoint import Checkpoint
from sharpcli.checkpoints._prefixes import is_stray, renamings
from sharpcli.checkpoints._sets import EXTRA_STATE
from sharpcli.checkpoints._types import require_real
from sharpcli.errors import InputError

_SHOWN = 3
_ROWS = 6  # Of each kind of difference in a table.


def fit(checkpoint: Checkpoint, model: nn.Module) -> tuple[str, ...]:
    """Load the checkpoint's tensors into a model.

    Every name that torch's own strict loading accepts is accepted, and old names that its modules convert. Parts of names
    from wrappers are removed if all tensors fit then. A tied tensor may be stored once, under any of its names. Entries
    that training adds to the model are left out, with a warning.

    Returns:
        The names that were left out.

    Raises:
        InputError: A tensor is missing, left over, of another shape or of another type.
    """
    fitting = _fitting(checkpoint, model)
    if fitting.strays:
        listed = ", ".join(f"'{name}'" for name in fitting.strays[:_SHOWN])
        more = f" and {len(fitting.strays) - _SHOWN} more" if len(fitting.strays) > _SHOWN else ""
        progress.warn(f"{checkpoint.path} contains entries that the model does not load; left out: {listed}{more}.")
    return fitting.strays


def fitted(checkpoint: Checkpoint, model: nn.Module) -> dict[str, Tensor]:
    """Return the checkpoint's tensors under the names of a model, which is loaded with them.

    Raises:
        InputError: The tensors do not fit the model.
    """
    return dict(_fitting(checkpoint, model).state)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """Tensors under names of the model, and how they differ from the tensors of the model."""

    state: dict[str, Tensor]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[str, ...]
    strays: tuple[str, ...]
    sizes: Mapping[str, torch.Size]

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.shapes)


def _fitting(checkpoint: Checkpoint, model: nn.Module) -> _Attempt:
    """Return the first way of renaming with which all tensors fit."""
    wanted = {name: part for name, part in model.state_dict(keep_vars=True).items() if isinstance(part, Tensor)}
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    best: _Attempt | None = None
    for names in renamings(checkpoint.state, wanted, modules):
        state = {names[name]: tensor for name, tensor in checkpoint.state.items()}
        attempt = _attempt(state, wanted, model)
        if attempt.problems == 0:
            _check(checkpoint, attempt.state, wanted)
            return attempt
        if best is None or attempt.problems < best.problems:
            best = attempt
    assert best is not None
    raise _refusal(checkpoint, best, _fitting_parts(checkpoint.state, wanted))


def _fitting_parts(names: Collection[str], wanted: Collection[str]) -> list[str]:
    """Return the first parts of names under which there are all tensors of the model, such as "student" and "teacher"."""
    words = dict.fromkeys(name.partition(".")[0] for name in names)
    return [word for word in words if wanted and all(f"{word}.{name}" in names for name in wanted)]


def _attempt(state: dict[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module) -> _Attempt:
    """Load the tensors, and return what torch leaves out; tied tensors first get all their names."""
    for names in _ties(wanted):
        there = next((name for name in names if name in state), None)
        if there is not None:
            state = {**dict.fromkeys(names, state[there]), **state}
    shapes = tuple(
        f"'{name}'  {tuple(state[name].shape)} in the file, {tuple(part.shape)} in the model"
        for name, part in wanted.items()
        if name in state and not _same_shape(state[name], part)
    )
    taken = {name: tensor for name, tensor in state.items() if name not in wanted or _same_shape(tensor, wanted[name])}
    try:
        missing, extra = model.load_state_dict(taken, strict=False)
    except (RuntimeError, KeyError) as error:  # A shape that only a module with conversion of old names can check.
        return _Attempt(state, (), (), (*shapes, str(error).splitlines()[-1].strip()), (), {})
    unmatched = [name for name in missing if not name.endswith(EXTRA_STATE) and name not in state]
    made = dict(model.named_buffers())  # Old files contain buffers that the model creates and no longer saves.
    strays = tuple(name for name in extra if is_stray(name) or (name in made and _equal(state[name], made[name])))
    kept = {name: tensor for name, tensor in state.items() if name not in extra}
    left_over = tuple(name for name in extra if name not in strays)
    return _Attempt(kept, tuple(unmatched), left_over, shapes, strays, {name: state[name].shape for name in left_over})


def _same_shape(tensor: Tensor, part: Tensor) -> bool:
    return tensor.shape == part.shape or (part.ndim == 0 and tensor.shape == (1,))  # As torch wrote scalars before 0.4.


def _ties(wanted: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of each tensor that has several names."""
    names: dict[int, list[str]] = {}
    for name, part in wanted.items():
        names.setdefault(id(part), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _check(checkpoint: Checkpoint, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse parameters that are not real numbers, and a tied tensor that has two different values in the file."""
    for name, tensor in state.items():
        part = wanted.get(name)
        if isinstance(part, nn.Parameter) and part.is_floating_point():
            require_real(checkpoint.path, name, tensor)
    for first, *others in _ties(wanted):
        for name in others:
            if first in state and name in state and not _equal(state[first], state[name]):
                raise InputError(
                    f"In the model, '{first}' and '{name}' are the same tensor, but in {checkpoint.path} they differ.",
                    "Build the model without this tie, or give a file that belongs to the model.",
                )


def _equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal; NaN, which is refused elsewhere, equals itself here."""
    return one.shape == other.shape and bool(torch.allclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True))


def _refusal(checkpoint: Checkpoint, attempt: _Attempt, whole: list[str]) -> InputError:
    """Return the error that lists the differences by kind, and the most likely remedy as a hint."""
    kinds = (
        ("missing from the file", [f"'{name}'" for name in attempt.missing]),
        ("not in the model", [f"'{name}'  {tuple(attempt.sizes[name])}" for name in attempt.extra]),
        ("of another shape", list(attempt.shapes)),
    )
    counts = [f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {kind}" for kind, names in kinds if names]
    table = []
    for kind, names in kinds:
        more = [f"and {len(names) - _ROWS} more"] if len(names) > _ROWS else []
        table += [f"  {kind:<22}  {name}" for name in names[:_ROWS] + more]
    if whole:
        hint = f"It contains the model under {' and '.join(whole)}. Choose one with --weights, such as --weights {whole[0]}."
    elif not attempt.missing and not attempt.extra:
        hint = "The model has another size: set it with --model-arg, or its number of outputs with --num-classes."
    elif not attempt.missing and not attempt.shapes:
        globs = list(dict.fromkeys(f"{name.partition('.')[0]}.*" if "." in name else name for name in attempt.extra))[:_SHOWN]
        options = " ".join(f"--ignore-keys '{glob}'" for glob in globs)
        hint = f"Name the whole model with --model, use another --model-arg, or leave them out: {options}."
    else:
        hint = "Give the model it was trained with: --model and, for its size, --model-arg."
    return InputError(f"{checkpoint.address} does not fit the model: {', '.join(counts)}.", hint, details=table)
