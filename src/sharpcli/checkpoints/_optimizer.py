"""The state of an optimizer in a checkpoint: what it remembers of each parameter, and its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import Tensor

_DEEPEST = 2
_LARGEST = 2.0**63
# The options that name an optimizer of torch: no other one has all of them.
_MARKS = {
    "nadam": ("betas", "momentum_decay"),
    "adam": ("betas", "amsgrad"),
    "rmsprop": ("alpha", "centered"),
    "adagrad": ("lr_decay", "initial_accumulator_value"),
    "sgd": ("dampening", "nesterov"),
}
_NAMES = "param_names"  # In the groups of an optimizer that was made from named parameters.


class OptimizerContent(TypedDict):
    """The state of an optimizer as our files hold it; tensors by the name of the parameter and their own name."""

    name: str
    options: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """What an optimizer remembers of each parameter, and its options.

    Attributes:
        name: Its class in lower case, such as "adam"; "" if it is not known.
        options: The options that are the same for all parameters, such as "lr" and "betas".
        differing: The names of the options that are not.
        tensors: By the name of the parameter, then by their own name, such as "exp_avg_sq"; on the CPU.
        numbered: The tensors of each parameter in the optimizer's order, if the file does not name the parameters.
        unnamed: Whether there are several groups of parameters without names, so that nothing can be assigned.
    """

    name: str
    options: dict[str, Any]
    differing: tuple[str, ...] = ()
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    numbered: tuple[dict[str, Tensor], ...] | None = None
    unnamed: bool = False

    @staticmethod
    def of(optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, Tensor]]) -> OptimizerState:
        """Return the state of an optimizer in memory, without a copy of its tensors.

        Args:
            optimizer: An optimizer of torch.
            named: The parameters with their names.
        """
        names = {id(parameter): name for name, parameter in named}
        options, differing = _common(optimizer.param_groups)
        kept = {
            names[id(parameter)]: {key: _tensor(part) for key, part in parts.items() if _is_number(part)}
            for parameter, parts in optimizer.state.items()
            if id(parameter) in names
        }
        return OptimizerState(
            type(optimizer).__name__.lower(), options, differing, {n: part for n, part in kept.items() if part}
        )

    @staticmethod
    def from_content(content: OptimizerContent) -> OptimizerState:
        """Return the state that one of our files holds."""
        return OptimizerState(content["name"], content["options"], (), content["tensors"])

    def content(self) -> OptimizerContent:
        """Return the state as our files hold it, with copies of its tensors on the CPU."""
        tensors = {
            name: {key: part.detach().cpu().contiguous().clone() for key, part in parts.items()}
            for name, parts in self.tensors.items()
        }
        return {"name": self.name, "options": self.options, "tensors": tensors}


def foreign_optimizer(content: Any) -> OptimizerState | None:
    """Return the state of the only optimizer in the content of a file of another program; None if there is none, or several.

    torch numbers the parameters; their names are in the file only if the optimizer was made from named parameters.
    """
    found = list(_states(content, 0))
    if len(found) != 1:
        return None
    groups, state = found[0]["param_groups"], found[0]["state"]
    options, differing = _common(groups)
    name = next((name for name, marks in _MARKS.items() if all(mark in groups[0] for mark in marks)), "")
    if name == "adam" and options.get("decoupled_weight_decay"):
        name = "adamw"
    numbers = [number for group in groups for number in group["params"]]
    if all(isinstance(number, str) for number in numbers):  # Names, as torch.distributed.checkpoint.state_dict gives them.
        return OptimizerState(name, options, differing, {each: kept for each in numbers if (kept := _tensors(state.get(each)))})
    if not all(isinstance(number, int) for number in numbers):
        return None
    parts = [_tensors(state.get(number, {})) for number in numbers]
    if all(isinstance(group.get(_NAMES), list) for group in groups):
        names = [str(each) for group in groups for each in group[_NAMES]]
        if len(names) == len(numbers):
            tensors = {each: part for each, part in zip(names, parts, strict=True) if part}
            return OptimizerState(name, options, differing, tensors)
    if len(groups) > 1:  # Groups are seldom in the order of the model.
        return OptimizerState(name, options, differing, unnamed=True)
    return OptimizerState(name, options, differing, numbered=tuple(parts))


def _states(node: Any, depth: int) -> Iterable[Mapping[str, Any]]:
    """Yield the states of optimizers in nested dictionaries and lists."""
    if isinstance(node, Mapping) and _is_state(node):
        yield node
    elif depth < _DEEPEST and isinstance(node, Mapping | list | tuple):
        for part in node.values() if isinstance(node, Mapping) else node:
            if isinstance(part, Mapping | list | tuple):
                yield from _states(part, depth + 1)


def _is_state(node: Mapping[Any, Any]) -> bool:
    groups, state = node.get("param_groups"), node.get("state")
    return (
        isinstance(groups, list)
        and bool(groups)
        and all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups)
        and isinstance(state, Mapping)
        and bool(state)
    )


def _common(groups: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options that are the same in all groups, as plain values, and the names of those that are not."""
    plain = [{key: _plain(value) for key, value in group.items() if key not in ("params", _NAMES)} for group in groups]
    same = {key: value for key, value in plain[0].items() if all(key in one and one[key] == value for one in plain)}
    names = dict.fromkeys(key for one in plain for key in one)
    return same, tuple(key for key in names if key not in same)


def _plain(value: Any) -> Any:
    """Return an option as a plain value; None for one that is not a number, a text or a list of numbers."""
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and value.dtype.is_floating_point else None
    if isinstance(value, list | tuple):
        return [float(part) for part in value if _is_number(part)]
    return value if isinstance(value, bool | str) or _is_number(value) else None


def _tensors(parts: Any) -> dict[str, Tensor]:
    named = parts.items() if isinstance(parts, Mapping) else ()
    return {str(key): _tensor(part) for key, part in named if _is_number(part)}


def _is_number(part: Any) -> bool:
    if isinstance(part, Tensor | bool):
        return isinstance(part, Tensor)
    return isinstance(part, int | float) and abs(part) < _LARGEST


def _tensor(part: Any) -> Tensor:
    return part.detach() if isinstance(part, Tensor) else torch.tensor(float(part))
