"""Choice of the output tensor, for models that return a dict, a tuple or an object instead of one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.errors import InputError, SettingsError

_DEPTH = 3  # Levels of nested dicts, tuples and objects that are searched for tensors.
_ALWAYS = "The model must return the same kind of result in training mode and in eval mode, for all inputs."


class ChosenOutput:
    """A forward hook that replaces the result of a module by one tensor in this result.

    Copies of the module have the same hook, and `torch.func.functional_call` runs the hook, too.

    Args:
        key: Name of the tensor, from the outer to the inner part, joined by dots, such as "logits" or "1.0".
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, module: nn.Module, inputs: object, answer: object) -> Tensor:  # noqa: ARG002
        """Return the chosen tensor.

        Raises:
            InputError: The result has no tensor of this name, although it had one when the model was tested in eval mode.
        """
        tensors = tensors_of(answer)
        if self.key not in tensors:
            raise InputError(f"The model now returns {describe_answer(answer)}, without the output '{self.key}'.", _ALWAYS)
        return tensors[self.key]


def choose_output(model: nn.Module, answer: object, name: str | None, spec: str) -> None:
    """Register a hook that makes a model return one tensor, if the model returns anything else.

    Args:
        model: The model, which is changed in place.
        answer: The result of the model for some batch.
        name: Name of the output tensor, or its position counted from 0; None if the user has not chosen one.
        spec: Name of the model, for messages.

    Raises:
        InputError: The result contains no tensor, or none of this name, or several and `name` is None.
        SettingsError: `name` is given, but the model returns one tensor.
    """
    if isinstance(answer, Tensor):
        if name is not None:
            raise SettingsError(f"'{spec}' returns one tensor, so --output has no effect.", "Remove --output.")
        return
    tensors = tensors_of(answer)
    if not tensors:
        raise InputError(f"'{spec}' returns {describe_answer(answer)}, which contains no tensor.", "Return the output tensor.")
    if name is None and len(tensors) > 1:
        flags = " or ".join(f"--output {name}" for name in tensors)
        raise InputError(f"'{spec}' returns several tensors: {describe_answer(answer)}.", f"Choose the output: {flags}.")
    key = next(iter(tensors)) if name is None else _name_of(answer, name)
    if key not in tensors:
        raise InputError(
            f"'{spec}' has no output '{name}'; it returns {describe_answer(answer)}.", f"Known: {', '.join(tensors)}."
        )
    if name is None:
        progress.note(f"'{spec}' returns {describe_answer(answer)}; its only tensor is used as the output.")
    model.register_forward_hook(ChosenOutput(key))


def chosen_output(model: nn.Module) -> str | None:
    """Return the name of the tensor that `choose_output` has chosen for a model; None if the model has no such hook."""
    return next((hook.key for hook in model._forward_hooks.values() if isinstance(hook, ChosenOutput)), None)


def require_tensor(answer: object) -> Tensor:
    """Return the result of a model in training mode after a check that the result is a tensor.

    Raises:
        InputError: The result is not a tensor, although it was one when the model was tested in eval mode.
    """
    if not isinstance(answer, Tensor):
        raise InputError(f"In training mode the model returns {describe_answer(answer)} instead of one tensor.", _ALWAYS)
    return answer


def tensors_of(answer: object, depth: int = _DEPTH) -> dict[str, Tensor]:
    """Return all tensors in a result by name, such as "logits", or "1.0" for the first tensor in the second part of a tuple.

    Raises:
        InputError: Two tensors have the same name.
    """
    tensors: dict[str, Tensor] = {}
    for name, part in _named_parts(answer):
        inside = {name: part} if isinstance(part, Tensor) else {}
        if not inside and depth > 1:
            inside = {f"{name}.{inner}": tensor for inner, tensor in tensors_of(part, depth - 1).items()}
        twice = sorted(tensors.keys() & inside.keys())
        if twice:
            raise InputError(f"In the model's answer, two outputs are called '{twice[0]}'.", "Rename one of them in the model.")
        tensors |= inside
    return tensors


def describe_answer(answer: object) -> str:
    """Return a description of a result with the shape of each tensor; N is the most frequent size of the first axis."""
    lengths = [len(part) for part in tensors_of(answer).values() if part.ndim]
    rows = max(set(lengths), key=lengths.count, default=0)
    if isinstance(answer, Tensor):
        return f"a tensor {_shape(answer, len(answer))}"
    inside = ", ".join(f"{name} {_shape(part, rows)}" for name, part in tensors_of(answer).items())
    kind = type(answer).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{article} {kind}" + (f" of {inside}" if inside else "")


def _shape(part: Tensor, rows: int) -> str:
    sizes = [str(size) for size in part.shape]
    return f"({', '.join(['N', *sizes[1:]] if part.ndim and len(part) == rows else sizes)})"


def _name_of(answer: object, name: str) -> str:
    """Return the name of a part that is given by name or position; in a dict, a number is always a name."""
    names = [name for name, _ in _named_parts(answer)]
    if name not in names and name.isdigit() and not isinstance(answer, dict) and int(name) < len(names):
        return names[int(name)]
    return name


def _named_parts(answer: object) -> Iterable[tuple[str, object]]:
    if isinstance(answer, Mapping):
        return [(str(name), part) for name, part in answer.items()]
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return zip(answer._fields, answer, strict=True)
    if isinstance(answer, list | tuple):
        return [(str(place), part) for place, part in enumerate(answer)]
    if is_dataclass(answer):
        return [(entry.name, getattr(answer, entry.name)) for entry in fields(answer)]
    return list(getattr(answer, "__dict__", {}).items())
