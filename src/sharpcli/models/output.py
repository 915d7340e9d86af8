"""Which part of a model's answer is its outputs, where it answers with a dict, a tuple or an object instead of a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.errors import InputError, SettingsError

_DEPTH = 3  # Of parts inside parts.
_ALWAYS = "Let it answer alike in training and in eval mode, whatever it is given."


class Picked:
    """A forward hook that answers with one part of what a module answers.

    Copies of the module have it too, and calls with other weights (`torch.func.functional_call`) pass through it.

    Args:
        key: Names of parts from outside to inside, joined by dots, such as "logits" or "1.0".
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, module: nn.Module, inputs: object, answer: object) -> Tensor:  # noqa: ARG002
        """Return the part.

        Raises:
            InputError: There is none of that name; the model answers otherwise than when it was tried, such as in training.
        """
        found = parts(answer)
        if self.key not in found:
            raise InputError(f"The model now answers with {told(answer)}, without the output '{self.key}'.", _ALWAYS)
        return found[self.key]


def choose(model: nn.Module, answer: object, asked: str | None, spec: str) -> None:
    """Make a model answer with a tensor.

    Args:
        model: Changed in place.
        answer: What it answers to a batch of two samples.
        asked: The name of the part that is its outputs, or a number from 0 for its place; None if nobody said.
        spec: The model's name, for messages.

    Raises:
        InputError: There is no such part, or nobody said which of several it is.
        SettingsError: It answers with a tensor already.
    """
    if isinstance(answer, Tensor):
        if asked is not None:
            raise SettingsError(f"'{spec}' answers with one tensor, of which --output chooses nothing.", "Leave --output out.")
        return
    found = parts(answer)
    if not found:
        raise InputError(f"'{spec}' answers with {told(answer)}, in which there is no tensor.", "Return a tensor of outputs.")
    if asked is None and len(found) > 1:
        flags = " or ".join(f"--output {name}" for name in found)
        raise InputError(f"'{spec}' answers with several tensors: {told(answer)}.", f"Say which is the outputs: {flags}.")
    key = next(iter(found)) if asked is None else _name(answer, asked)
    if key not in found:
        raise InputError(f"'{spec}' has no output '{asked}'; it answers with {told(answer)}.", f"Known: {', '.join(found)}.")
    if asked is None:
        progress.note(f"'{spec}' answers with {told(answer)}, whose only tensor is taken as the outputs.")
    model.register_forward_hook(Picked(key))


def chosen_output(model: nn.Module) -> str | None:
    """Return the name of the part of its answer that a model was made to answer with."""
    return next((hook.key for hook in model._forward_hooks.values() if isinstance(hook, Picked)), None)


def require_tensor(answer: object) -> Tensor:
    """Return an answer that is a tensor.

    Raises:
        InputError: It is not, although it was when the model was tried in eval mode.
    """
    if not isinstance(answer, Tensor):
        raise InputError(f"In training the model answers with {told(answer)} instead of one tensor.", _ALWAYS)
    return answer


def parts(answer: object, depth: int = _DEPTH) -> dict[str, Tensor]:
    """Return all tensors of an answer by name; inside others, the names are joined by dots.

    Raises:
        InputError: Two of them have the same name.
    """
    found: dict[str, Tensor] = {}
    for name, part in _named(answer):
        inside = {name: part} if isinstance(part, Tensor) else {}
        if not inside and depth > 1:
            inside = {f"{name}.{inner}": tensor for inner, tensor in parts(part, depth - 1).items()}
        twice = sorted(found.keys() & inside.keys())
        if twice:
            raise InputError(f"In the model's answer, two outputs are called '{twice[0]}'.", "Rename one of them in the model.")
        found |= inside
    return found


def told(answer: object) -> str:
    """Return what an answer to some samples is, in words, with the shape of every tensor; N is what most of them begin with."""
    lengths = [len(part) for part in parts(answer).values() if part.ndim]
    rows = max(set(lengths), key=lengths.count, default=0)
    if isinstance(answer, Tensor):
        return f"a tensor {_shape(answer, len(answer))}"
    inside = ", ".join(f"{name} {_shape(part, rows)}" for name, part in parts(answer).items())
    kind = type(answer).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{article} {kind}" + (f" of {inside}" if inside else "")


def _shape(part: Tensor, rows: int) -> str:
    sizes = [str(size) for size in part.shape]
    return f"({', '.join(['N', *sizes[1:]] if part.ndim and len(part) == rows else sizes)})"


def _name(answer: object, asked: str) -> str:
    """Return the name of a part; of things with an order, a number is its place."""
    names = [name for name, _ in _named(answer)]
    if asked not in names and asked.isdigit() and not isinstance(answer, dict) and int(asked) < len(names):
        return names[int(asked)]
    return asked


def _named(answer: object) -> Iterable[tuple[str, object]]:
    if isinstance(answer, Mapping):
        return [(str(name), part) for name, part in answer.items()]
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return zip(answer._fields, answer, strict=True)
    if isinstance(answer, list | tuple):
        return [(str(place), part) for place, part in enumerate(answer)]
    if is_dataclass(answer):
        return [(entry.name, getattr(answer, entry.name)) for entry in fields(answer)]
    return list(getattr(answer, "__dict__", {}).items())
