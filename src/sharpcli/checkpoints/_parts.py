"""Which tensors of a checkpoint are parameters, decided in one place for all commands.

With a model, they are its trainable parameters: a tied tensor counts once, buffers and frozen parameters do not count. A
checkpoint of sharpcli has their names in its metadata. For any other file without a model, only names and values decide.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sharpcli.checkpoints._checkpoint import Checkpoint
from sharpcli.checkpoints._fitting import fit
from sharpcli.checkpoints._prefixes import aligned, is_stray
from sharpcli.checkpoints._types import require_real
from sharpcli.errors import InputError, NumericalError

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_BESIDE_ORIGINAL = ("_u", "_v", "_mask")  # Stored by spectral norm and pruning next to NAME_orig, which is trained.
_CERTAIN = ("weight", "bias")  # Names that no mask has.
_NUMBERS = re.compile(r"(.*_)?(weight|bias)|(weight|bias)_(ih|hh|hr|g|v|orig)\w*")  # Last part of a parameter's name.


@dataclass(frozen=True, eq=False)
class Parts:
    """The tensors of a checkpoint by kind.

    Attributes:
        parameters: By name, each tensor once.
        ties: Further names of parameters, each with the name under which the parameter is counted.
        buffers: Names of tensors that are not trained: statistics, masks, frozen parameters.
        left_out: Names of entries that training adds to a model.
        known_by: How parameters were identified: "model", "record", or "names and values", which is a guess.
    """

    parameters: dict[str, Tensor]
    ties: dict[str, str]
    buffers: tuple[str, ...]
    left_out: tuple[str, ...]
    known_by: str

    @property
    def num_parameters(self) -> int:
        """P, the number of parameters."""
        return sum(tensor.numel() for tensor in self.parameters.values())

    @property
    def guess(self) -> str | None:
        """The message to the user if only names and values separate parameters from buffers, else None."""
        if self.known_by != "names and values":
            return None
        ties = f" Equal tensors under several names count once: {_listed(self.ties)}." if self.ties else ""
        masks = [name for name in self.buffers if name.rpartition(".")[2] not in _STATISTICS]
        taken = f" Treated as buffers: {_listed(masks)}." if masks else ""
        left = f" Left out: {_listed(self.left_out)}." if self.left_out else ""
        return f"Without the model (--model), buffers are recognised only by their names and values.{ties}{taken}{left}"

    def require_finite(self, path: Path) -> None:
        """Raise NumericalError if any parameter holds NaN or infinity."""
        for name, tensor in self.parameters.items():
            if not bool(torch.isfinite(tensor).all()):
                raise _not_finite(path, name)


def require_finite(model: nn.Module, path: Path) -> None:
    """Raise NumericalError if any parameter of a model, frozen or not, is not finite, or a buffer is NaN.

    Infinite values in buffers are allowed, since they are masks.
    """
    for name, part in model.named_parameters():
        if not bool(torch.isfinite(part).all()):
            raise _not_finite(path, name)
    for name, buffer in model.named_buffers():
        if bool(torch.isnan(buffer).any()):
            raise _not_finite(path, name)


def _not_finite(path: Path, name: str) -> NumericalError:
    return NumericalError(
        f"The weights in {path} are not finite: '{name}' holds NaN or infinity.",
        "The run has diverged; use an earlier checkpoint or train with a lower --lr or with --clip.",
    )


def parts_of_model(model: nn.Module) -> Parts:
    """Return the tensors of a model by kind: its trainable parameters are the parameters."""
    trainable = {name: part.detach() for name, part in model.named_parameters() if part.requires_grad}
    owner = {id(part): name for name, part in model.named_parameters()}
    ties = {
        name: owner[id(part)]
        for name, part in model.named_parameters(remove_duplicate=False)
        if owner[id(part)] != name and owner[id(part)] in trainable
    }
    stored = [name for name, part in model.state_dict().items() if isinstance(part, Tensor)]
    others = tuple(name for name in stored if name not in trainable and name not in ties)
    return Parts(trainable, ties, others, (), "model")


def parts(checkpoint: Checkpoint, model: nn.Module | None = None) -> Parts:
    """Return which tensors of a checkpoint are parameters.

    Args:
        checkpoint: Weights.
        model: The model they belong to, which is not changed; values are then those of a copy in float64.

    Raises:
        InputError: The weights do not fit the model, or a parameter does not have real numbers.
    """
    return same_parameters([checkpoint], model)[0]


def same_parameters(checkpoints: Sequence[Checkpoint], model: nn.Module | None = None) -> list[Parts]:
    """Return the parameters of several checkpoints of one model, under the same names in the same order.

    Args:
        checkpoints: The first checkpoint decides if there is neither a model nor a record.
        model: The model they belong to.

    Raises:
        InputError: The weights do not fit the model, or checkpoints differ in names or shapes of parameters.
    """
    if model is not None:
        return [_by_model(one, model) for one in checkpoints]
    first = checkpoints[0]
    names = [aligned(one.state, first.state) for one in checkpoints]
    states = [{names[i][name]: part for name, part in one.state.items()} for i, one in enumerate(checkpoints)]
    recorded = next((i for i, one in enumerate(checkpoints) if one.metadata.get("parameters")), None)
    if recorded is None:
        likely = [name for name in first.state if not _no_parameter(first, name)]
        ties = _ties(likely, states)
        chosen, known_by = [name for name in likely if name not in ties], "names and values"
    else:
        chosen = [names[recorded][name] for name in checkpoints[recorded].metadata["parameters"]]
        others = [name for name in first.state if name not in chosen]
        ties = {name: owner for name, owner in _ties([*chosen, *others], states).items() if name in others and owner in chosen}
        known_by = "record"
    unused = [name for name in first.state if name not in chosen and name not in ties]
    left = tuple(name for name in unused if is_stray(name))
    buffers = tuple(name for name in unused if name not in left)
    parts_of_each = []
    for one, state in zip(checkpoints, states, strict=True):
        _require_same(first, one, state, chosen)
        parts_of_each.append(Parts({name: state[name] for name in chosen}, ties, buffers, (*left, *one.left_out), known_by))
    return parts_of_each


def _by_model(checkpoint: Checkpoint, model: nn.Module) -> Parts:
    computed = (part for module in model.modules() for part in vars(module).values() if isinstance(part, Tensor))
    apart = {id(part): part.detach().clone() for part in computed if not part.is_leaf}  # Such as in torch's old weight norm.
    copied = copy.deepcopy(model, apart).double()  # Exact for every type that weights may have.
    strays = fit(checkpoint, copied)
    return replace(parts_of_model(copied), left_out=(*strays, *checkpoint.left_out))


def _require_same(first: Checkpoint, one: Checkpoint, state: Mapping[str, Tensor], names: Sequence[str]) -> None:
    for name in names:
        if name not in state or state[name].shape != first.state[name].shape:
            raise InputError(
                f"{first.address} and {one.address} do not hold the same tensors: '{name}' differs.",
                "Give weights of the same model.",
            )
        require_real(one.path, name, state[name])


def _no_parameter(checkpoint: Checkpoint, name: str) -> bool:
    """Return whether a tensor cannot be a parameter.

    Raises:
        InputError: The tensor has the name of a parameter, but its numbers are not real.
    """
    tensor, leaf = checkpoint.state[name], name.rpartition(".")[2]
    if is_stray(name) or leaf in _STATISTICS:
        return True
    if any(name.endswith(end) and f"{name.removesuffix(end)}_orig" in checkpoint.state for end in _BESIDE_ORIGINAL):
        return True
    if ".parametrizations." in f".{name}" and leaf in ("_u", "_v"):
        return True
    if _NUMBERS.fullmatch(leaf):
        require_real(checkpoint.path, name, tensor)
    if leaf in _CERTAIN:
        return False
    if not tensor.is_floating_point():
        return True
    return bool(torch.isinf(tensor).any()) and not bool(torch.isnan(tensor).any())  # A mask, such as of attention.


def _ties(names: Sequence[str], states: Sequence[Mapping[str, Tensor]]) -> dict[str, str]:
    """Map the name of each tensor that is tied to an earlier tensor, in every file, to the earlier name."""
    ties: dict[str, str] = {}
    seen: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        here = states[0][name]
        alike = seen.setdefault((here.numel(), here.dtype), [])
        owner = next((other for other in alike if all(_tied(state, other, name) for state in states)), None)
        if owner is None:
            alike.append(name)
        else:
            ties[name] = owner
    return ties


def _tied(state: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Return whether two names refer to one tensor: the same memory, or equal numbers that are not all the same number.

    Scales of 1 and shifts of 0 are equal in every untrained network, although they are not tied.
    """
    if one not in state or other not in state:
        return False
    a, b = state[one], state[other]
    if a.numel() and a.dtype == b.dtype and a.data_ptr() == b.data_ptr() and a.numel() == b.numel():
        return True
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b) and bool((a != a.reshape(-1)[:1]).any())


def _listed(names: Mapping[str, str] | Sequence[str]) -> str:
    words = [f"'{name}' with '{names[name]}'" if isinstance(names, Mapping) else f"'{name}'" for name in names]
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
