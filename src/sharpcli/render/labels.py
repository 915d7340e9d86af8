"""Names of rows and lines, different for different checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from sharpcli.results import HessianResult, Subject, SurfaceResult

# What a block of --per-layer is called in tables.
BLOCKS = {"layer": "layer", "parameter": "tensor", "projection": "part", "head": "part"}
# The matrices that `hessian` knows: name and letter.
MATRICES = {
    "hessian": ("loss Hessian", "H"),
    "ggn": ("Gauss-Newton matrix", "G"),
    "fisher": ("Fisher matrix", "F"),
    "empirical-fisher": ("empirical Fisher matrix", "F"),
    "preconditioned": ("preconditioned Hessian", "A"),
}


def distinct(subjects: Sequence[Subject]) -> list[str]:
    """Return the short label of each checkpoint, with folders before it where labels would be the same."""
    short = [subject.label for subject in subjects]
    if len(set(short)) == len({subject.path for subject in subjects}):
        return short
    longer = [f"{PurePath(subject.path).parent.parent.name}/{subject.label}".lstrip("/") for subject in subjects]
    if len(set(longer)) == len({subject.path for subject in subjects}):
        return longer
    return [subject.path for subject in subjects]


def run_names(folders: Sequence[str]) -> list[str]:
    """Return a short name for each run folder: as few of the last parts of its path as tell all of them apart."""
    every = list(dict.fromkeys(folders))
    most = max(len(PurePath(folder).parts) for folder in every)
    for count in range(1, most + 1):
        names = {folder: "/".join(PurePath(folder).parts[-count:]) for folder in every}
        if len(set(names.values())) == len(every):
            break
    return [names[folder] for folder in folders]


def threshold_name(result: HessianResult) -> str:
    """Return the threshold of stability as text: 2/lr, or that of the optimizer of the preconditioned Hessian, as 38/lr."""
    if result.preconditioner is None:
        return "2/lr"
    offset = f" − {result.preconditioner.offset:.4g}" if result.preconditioner.offset else ""
    return f"{result.preconditioner.coefficient:.4g}/lr{offset}"


def edge(result: HessianResult) -> float | None:
    """Return the largest stable eigenvalue at the peak learning rate, with the momentum of the run; None if it is not known."""
    return result.stability_threshold if result.momentum_threshold is None else result.momentum_threshold


def edge_name(result: HessianResult) -> str:
    """Return the threshold of `edge` as text: 2/lr, 3.8/lr with momentum 0.9, or that of the preconditioned Hessian."""
    if result.momentum_threshold is None or not result.stability_threshold:
        return threshold_name(result)
    return f"{2 * result.momentum_threshold / result.stability_threshold:.4g}/lr"


def loss_label(unit: str) -> str:
    """Return the label of an axis of losses."""
    return f"loss ({unit})" if unit else "loss"


def per_term(unit: str, terms: float) -> str:
    """Return the unit of a loss if a sample has several loss terms, such as "nats per token"; "" if it has one."""
    return unit if terms != 1 else ""


def samples_with(unit: str, terms: float) -> str:
    """Return what follows a number of samples: "" if each has one loss term, else " samples of 64 tokens"."""
    return "" if terms == 1 else f" samples of {terms:.4g} {terms_named(unit)}"


def terms_named(unit: str) -> str:
    """Return the plural of what has a loss term, by the unit of the loss: "tokens" for "nats per token"."""
    return f"{unit.partition(' per ')[2] or 'loss term'}s"


def plane(result: SurfaceResult, name: str) -> str:
    """Return the position of the plane of a surface in words; `name` is the name of its checkpoint."""
    if result.explained:
        return f"in the principal plane of the run of {name}"
    if result.marks:
        return f"through {', '.join(mark.name for mark in result.marks)}"
    return f"around {name}"
