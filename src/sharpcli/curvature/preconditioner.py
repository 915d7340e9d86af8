"""The diagonal P by which an adaptive optimizer divides its steps, and the largest eigenvalue of P^{-1} H that it can stand.

Adam with a fixed P is descent with momentum in the coordinates P^{1/2} θ, where the Hessian is P^{-1/2} H P^{-1/2}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.checkpoints import OptimizerState, aligned
from sharpcli.curvature.stability import Edge, edge_of_averaged, edge_of_momentum
from sharpcli.errors import InputError
from sharpcli.parameters import ParameterSpace

ADAPTIVE = ("adam", "adamw", "nadam", "rmsprop", "adagrad")
_HINT = (
    "Use final.pt or step-N.pt of 'sharpcli train --optimizer adam', or save optimizer.state_dict() beside the weights, "
    "under a key such as 'optimizer'; of a model in memory, give optimizer=."
)
_SLOW = 0.96  # The momentum of NAdam rises to β1 by this power law in torch, after Dozat 2016.


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """P at one moment of a run, and what decides whether steps P^{-1} m are stable.

    Attributes:
        optimizer: "adam", "adamw", "nadam", "rmsprop" or "adagrad".
        parts: The diagonal of P by the name of the parameter, float64, with the parameter's shape. A parameter without second
            moments is not there: the optimizer has never moved it.
        step: The number of updates in the second moments; the largest, if parameters differ.
        rate: The learning rate of the last update.
        formula: P as text.
        edge: The largest stable eigenvalue of P^{-1} H as a function of the learning rate.
        weight_decay: λ of an L2 penalty, whose gradient λθ goes through P: it adds λ P^{-1} to P^{-1} H. 0 if it is decoupled
            or uncertain.
        uncertain_decay: Whether the file does not say if its weight decay is decoupled, or if it differs between parameters.
    """

    optimizer: str
    parts: Mapping[str, Tensor]
    step: int
    rate: float
    formula: str
    edge: Edge
    weight_decay: float
    uncertain_decay: bool

    def diagonal(self, space: ParameterSpace) -> Tensor:
        """Return the diagonal of P, shape (P,), float64; infinite for parameters that the optimizer has never moved."""
        parts = [
            self.parts[name] if name in self.parts else torch.full(shape, math.inf, dtype=torch.float64)
            for name, shape in zip(space.names, space.shapes, strict=True)
        ]
        device = next(iter(self.parts.values())).device
        return space.flatten([part.to(device) for part in parts])

    def scale(self, space: ParameterSpace) -> Tensor:
        """Return the diagonal of P^{-1/2}, shape (P,), float64; 0 for parameters that the optimizer has never moved."""
        return self.diagonal(space).rsqrt()

    def decay_along(self, vector: Tensor, space: ParameterSpace) -> float:
        """Return λ vᵀP^{-1}v for a unit vector v (P,): what an L2 penalty adds to vᵀP^{-1/2} H P^{-1/2}v."""
        if not self.weight_decay:
            return 0.0
        diagonal = self.diagonal(space).to(vector.device)
        return self.weight_decay * float((vector.to(diagonal.dtype).square() / diagonal).sum())

    def unmoved(self, space: ParameterSpace) -> list[str]:
        """Return the names of the parameters that the optimizer has never moved."""
        return [name for name in space.names if name not in self.parts]


def preconditioner_of(
    state: OptimizerState | None, space: ParameterSpace, owner: str, every: tuple[str, ...]
) -> Preconditioner:
    """Return P from the state of an optimizer.

    Args:
        state: The state; None if there is none.
        space: Names and shapes of the trainable parameters.
        owner: The file or the model, for messages.
        every: The names of all parameters of the model, trainable or not, each once: the order that torch numbers them in.

    Raises:
        InputError: There is no state, it is not that of an adaptive optimizer, or it does not fit the parameters.

    References:
        Cohen et al. 2022, arXiv 2207.14484, section 2: Adam as descent with the preconditioner
        P = (1 - β1^t) (√(ν / (1 - β2^t)) + ε).
    """
    if state is None or (state.name != "sgd" and not (state.tensors or state.numbered or state.unnamed)):
        raise InputError(
            f"{owner} does not hold the state of an optimizer, but the preconditioned Hessian needs its second moments.", _HINT
        )
    if state.name == "sgd":
        raise InputError(
            f"The optimizer in {owner} is SGD, which has no second moments: its preconditioned Hessian is the Hessian.",
            "Use --operator hessian, which also gives the threshold 2/lr.",
        )
    if state.name not in ADAPTIVE:
        raise InputError(
            f"The optimizer in {owner}{f', {state.name},' if state.name else ''} is not one whose preconditioner is known.",
            "Known are Adam, AdamW, NAdam, RMSprop and Adagrad of torch.",
        )
    options, tensors = state.options, tensors_by_name(state, space, owner, every)
    _require_options(state, owner)
    rule = _RULES[state.name]
    parts, steps = dict[str, Tensor](), [0.0]
    for name, kept in tensors.items():
        needed = {*rule.tensors, *(("grad_avg",) if options.get("centered") else ())}
        if not kept.keys() >= needed:
            raise InputError(f"The optimizer in {owner} holds no second moments of '{name}'.", _HINT)
        steps.append(float(kept["step"]) if "step" in kept else 0.0)
        parts[name] = _checked(rule.diagonal(options, _doubled(kept, owner), steps[-1]), name, owner)
    decay = options.get("weight_decay", 0.0)
    told = state.name != "adam" or "decoupled_weight_decay" in options
    uncertain = "weight_decay" in state.differing or (bool(decay) and not told)
    decoupled = state.name == "adamw" or bool(options.get("decoupled_weight_decay"))
    outside, inside = (0.0, 0.0) if uncertain else (float(decay), 0.0) if decoupled else (0.0, float(decay))
    return Preconditioner(
        optimizer=state.name,
        parts=parts,
        step=int(max(steps)),
        rate=float(options["lr"]),
        formula=rule.formula,
        edge=rule.edge(options, _Moment(max(steps), outside, _product_of_momenta(tensors))),
        weight_decay=inside,
        uncertain_decay=uncertain,
    )


def warn_of_batch_norm(policy: str) -> None:
    """Warn if BatchNorm uses fixed statistics: the loss is then not that whose gradients the optimizer has seen.

    In training, BatchNorm takes away a bias before it, so its second moment is near 0. With fixed statistics this bias has
    curvature, and P^{-1} multiplies it by millions.

    Args:
        policy: The BatchNorm policy of the analysis; see `Objective.bn`.
    """
    if policy in ("eval", "recompute"):
        progress.warn(
            "BatchNorm uses fixed statistics here, and those of each batch in training: what the optimizer remembers does not "
            "fit this loss, least of all for a bias before BatchNorm. hessian --bn batch --bn-block B, with B the batch size "
            "of the training, takes the loss of training."
        )


def tensors_by_name(
    state: OptimizerState, space: ParameterSpace, owner: str, every: tuple[str, ...]
) -> dict[str, Mapping[str, Tensor]]:
    """Return the tensors of the trainable parameters that have a state, by the names of the model.

    The arguments are those of `preconditioner_of`.

    Raises:
        InputError: They cannot be assigned to parameters, or do not have their shapes.
    """
    if state.unnamed:
        raise InputError(
            f"The optimizer in {owner} has several groups of parameters without names, so its tensors cannot be assigned.",
            "Make the optimizer from model.named_parameters(), or from one group of parameters.",
        )
    shapes = dict(zip(space.names, space.shapes, strict=True))
    tensors: Mapping[str, Mapping[str, Tensor]]
    if state.numbered is not None:
        order = next((names for names in (space.names, every) if len(names) == len(state.numbered)), None)
        if order is None:
            raise InputError(
                f"The optimizer in {owner} has {len(state.numbered)} parameters, but the model has {len(space.names)}.",
                "Make the optimizer from model.named_parameters(), so that the file holds their names.",
            )
        tensors = dict(zip(order, state.numbered, strict=True))
    else:
        names = aligned(state.tensors, every)
        tensors = {names[name]: kept for name, kept in state.tensors.items()}
    moved = {name: kept for name, kept in tensors.items() if name in shapes and kept}
    for name, kept in moved.items():
        odd = [key for key, part in kept.items() if part.ndim and part.shape != shapes[name]]
        if odd:
            raise InputError(
                f"The optimizer in {owner} does not fit the model: '{odd[0]}' of '{name}' has the shape "
                f"{tuple(kept[odd[0]].shape)} instead of {tuple(shapes[name])}.",
                "Make the optimizer from model.named_parameters(), so that the file holds their names.",
            )
    if not moved:
        raise InputError(f"The optimizer in {owner} holds no state of the model's parameters.", _HINT)
    return moved


def _require_options(state: OptimizerState, owner: str) -> None:
    needed = ("lr", *_RULES[state.name].options)
    for name in needed:
        value = state.options.get(name)
        if value is not None and _is_sound(name, value):
            continue
        why = "differs between groups of parameters" if name in state.differing else "is missing or not valid"
        raise InputError(
            f"The option '{name}' of the optimizer in {owner} {why}, so there is no single threshold.",
            "Use one value for all parameters.",
        )


def _is_sound(name: str, value: object) -> bool:
    """Return whether an option of an optimizer from a file has the type and the range that torch allows."""
    if name == "betas":
        return isinstance(value, list) and len(value) == 2 and all(isinstance(b, float) and 0 <= b < 1 for b in value)
    if name == "centered":
        return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _doubled(kept: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    if any(part.is_complex() for part in kept.values()):
        raise InputError(f"The optimizer in {owner} holds complex numbers.", "Use a model with real parameters.")
    return {name: part.double() for name, part in kept.items()}


def _checked(diagonal: Tensor, name: str, owner: str) -> Tensor:
    if not bool((torch.isfinite(diagonal) & (diagonal > 0)).all()):
        raise InputError(
            f"The second moments of '{name}' in {owner} give a P that is not finite and greater than 0.",
            "The run has diverged, or eps is 0; use an earlier checkpoint, or an eps above 0.",
        )
    return diagonal


def _product_of_momenta(tensors: Mapping[str, Mapping[str, Tensor]]) -> float:
    """Return the product of all momenta of NAdam so far; 0 for other optimizers."""
    first = next(iter(tensors.values()))
    return float(first["mu_product"]) if "mu_product" in first else 0.0


class _Moment(NamedTuple):
    """A moment of a run.

    Attributes:
        step: The number of updates so far.
        decay: λ of decoupled weight decay.
        product: The product of all momenta of NAdam so far; 0 for other optimizers.
    """

    step: float
    decay: float
    product: float


@dataclass(frozen=True)
class _Rule:
    """How an optimizer makes P and its step.

    Attributes:
        options: The options that it needs besides "lr".
        tensors: The tensors that it needs of each parameter.
        formula: P as text.
        diagonal: P from options, tensors in float64 and the number of updates.
        edge: The edge from options and the moment of the run.
    """

    options: tuple[str, ...]
    tensors: tuple[str, ...]
    formula: str
    diagonal: Callable[[Mapping[str, Any], Mapping[str, Tensor], float], Tensor]
    edge: Callable[[Mapping[str, Any], _Moment], Edge]


def _second(options: Mapping[str, Any], kept: Mapping[str, Tensor], step: float) -> Tensor:
    """Return √(ν / (1 - β2^t)) + ε, with the largest ν so far for AMSGrad."""
    decay, epsilon = float(options["betas"][1]), float(options["eps"])
    moments = kept["max_exp_avg_sq" if options.get("amsgrad") and "max_exp_avg_sq" in kept else "exp_avg_sq"]
    return torch.sqrt(moments / (1 - decay**step)) + epsilon


def _adam(options: Mapping[str, Any], kept: Mapping[str, Tensor], step: float) -> Tensor:
    decay = float(options["betas"][0])
    return _second(options, kept, step) * (1 - math.pow(decay, step))


def _rmsprop(options: Mapping[str, Any], kept: Mapping[str, Tensor], step: float) -> Tensor:  # noqa: ARG001
    moments = kept["square_avg"] - kept["grad_avg"].square() if options["centered"] else kept["square_avg"]
    return moments.sqrt() + float(options["eps"])


def _adagrad(options: Mapping[str, Any], kept: Mapping[str, Tensor], step: float) -> Tensor:  # noqa: ARG001
    return kept["sum"].sqrt() + float(options["eps"])


def _adam_edge(options: Mapping[str, Any], moment: _Moment) -> Edge:
    return edge_of_averaged(options["betas"][0], decay=moment.decay)


def _nadam_edge(options: Mapping[str, Any], moment: _Moment) -> Edge:
    """Return the edge with the coefficients of the next update: the momentum of torch's NAdam rises slowly to β1."""
    first, slow = options["betas"][0], options["momentum_decay"]
    now, later = (first * (1 - 0.5 * _SLOW ** (step * slow)) for step in (moment.step + 1, moment.step + 2))
    product = moment.product * now
    weights = {"direct": (1 - now) / (1 - product), "averaged": later / (1 - product * later)}
    return edge_of_averaged(first, **weights, decay=moment.decay)


def _rmsprop_edge(options: Mapping[str, Any], moment: _Moment) -> Edge:  # noqa: ARG001
    return edge_of_momentum(options["momentum"])


def _adagrad_edge(options: Mapping[str, Any], moment: _Moment) -> Edge:
    return edge_of_momentum(slowing=moment.step * options["lr_decay"])


_ADAM = _Rule(("betas", "eps"), ("exp_avg_sq",), "(1 − β₁ᵗ)(√(ν/(1 − β₂ᵗ)) + ε)", _adam, _adam_edge)
_RULES = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "nadam": _Rule(("betas", "eps", "momentum_decay"), ("exp_avg_sq",), "√(ν/(1 − β₂ᵗ)) + ε", _second, _nadam_edge),
    "rmsprop": _Rule(("eps", "momentum", "centered"), ("square_avg",), "√ν + ε", _rmsprop, _rmsprop_edge),
    "adagrad": _Rule(("eps", "lr_decay"), ("sum",), "√(Σ g²) + ε", _adagrad, _adagrad_edge),
}
