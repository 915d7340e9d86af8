"""What a user may choose: frozen dataclasses, checked once, from which the command line is made.

Every field carries its own help text; `sharpcli.cli.options` turns the fields of a class into the
options of a command, so a setting is written down in one place. Standard library only.
"""

from __future__ import annotations

import math
import types
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar, get_args, get_type_hints

from sharpcli.errors import SettingsError, closest

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "float64")
LOSSES = ("ce", "mse")
SPLITS = ("train", "test")
BN_POLICIES = ("recompute", "eval")
PATHS = ("linear", "arc")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant", "step")
LR_SCALES = ("none", "sqrt", "linear")
REPEATED = ("model_arg", "data_arg")  # One value a time; the other tuples are one text with commas.
METRICS = ("hessian", "sharpness", "distance")


_Settings = TypeVar("_Settings", bound="SubjectSettings")


def option(default: Any, text: str, metavar: str | None = None) -> Any:
    """Declare a setting with its default, its help text and what to call its value in `--help`."""
    return field(default=default, metadata={"help": text, "metavar": metavar})


def chosen(kind: type[_Settings], settings: _Settings | None, options: dict[str, Any]) -> _Settings:
    """Return settings that were given whole or by their fields.

    Raises:
        SettingsError: Both were given, or a field is unknown.
    """
    if settings is not None and options:
        raise SettingsError("Settings and options are both given.", "Put the options into the settings.")
    known = {entry.name for entry in fields(kind)}
    for name in options:
        if name not in known:
            raise SettingsError(f"There is no setting called '{name}'.", closest(name, known))
    return settings if settings is not None else kind(**options)


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of a plain type or of one of a union; a whole number is a number, a bool is neither."""
    kinds = get_args(hint) or (hint,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _wrong_type(name: str, value: object) -> SettingsError:
    return SettingsError(
        f"--{name.replace('_', '-')} cannot be {value!r}, which is of the wrong type.",
        "See the command's --help for what it takes.",
    )


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"--{name} is '{value}', which is not a choice.", closest(value, allowed))


def _at_least(name: str, value: float | None, least: float, *, strictly: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value) or value < least or (strictly and value == least):
        word = "greater than" if strictly else "at least"
        raise SettingsError(f"--{name} is {value:g}, but must be {word} {least:g}.", f"Give --{name} another value.")


@dataclass(frozen=True, kw_only=True)
class SubjectSettings:
    """Which model, data and loss to use, and on what machine. Shared by every command."""

    model: str | None = option(
        None, "Model: a built-in name, torchvision:NAME, file.py:fn or pkg.mod:attr. Default: as the checkpoint says.", "SPEC"
    )
    model_arg: tuple[str, ...] = option((), "Argument for the model, such as width=32. Repeat for several.", "KEY=VALUE")
    data: str | None = option(
        None, "Data: fashion-mini, mnist, cifar10, ..., npz:FILE or folder:PATH. Default: as the checkpoint says.", "SPEC"
    )
    data_arg: tuple[str, ...] = option((), "Argument for the data set, such as size=32. Repeat for several.", "KEY=VALUE")
    data_root: str = option("data", "Folder that holds torchvision's data sets.", "PATH")
    download: bool = option(False, "Let torchvision download a missing data set.")
    loss: str | None = option(
        None,
        "ce (cross-entropy) or mse (half the squared error), mean over samples. Default: as the checkpoint says, else ce.",
        "NAME",
    )
    device: str = option("auto", "auto, cpu, cuda or mps.", "NAME")
    dtype: str = option("float32", "float32 or float64; sums are float64 either way.", "NAME")
    seed: int = option(0, "Seed of every random number.", "N")

    def __post_init__(self) -> None:
        self._settle()
        _choice("device", self.device, DEVICES)
        _choice("dtype", self.dtype, DTYPES)
        if self.loss is not None:
            _choice("loss", self.loss, LOSSES)
        _at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise SettingsError(f"--seed {self.seed} is too large.", "Use a number below 2**63.")

    def _settle(self) -> None:
        """Take a single value, a list or a text with commas where several values are meant, and check every type."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if isinstance(hint, types.GenericAlias):
                several = value if isinstance(value, list | tuple) else [value] if name in REPEATED else str(value).split(",")
                kind = get_args(hint)[0]
                try:
                    value = tuple(kind(item) for item in several)
                except (TypeError, ValueError):
                    raise _wrong_type(name, value) from None
                object.__setattr__(self, name, value)
            elif not _fits(value, hint):
                raise _wrong_type(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(SubjectSettings):
    """What every analysis shares: which part of the data, and how much of it at a time."""

    split: str = option("train", "Split whose mean loss is analysed: train or test.", "NAME")
    samples: int | None = option(None, "Analyse a seeded random subset of this many samples. Default: all.", "N")
    batch_size: int | None = option(None, "Samples a pass holds at once; never changes the answer. Default: automatic.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        _choice("split", self.split, SPLITS)
        _at_least("samples", self.samples, 1)
        _at_least("batch-size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class HessianSettings(AnalysisSettings):
    """How to find the largest eigenvalues of the Hessian."""

    topk: int = option(5, "How many of the largest (algebraic) eigenvalues.", "K")
    tol: float = option(
        1e-3, "Stop when every residual is at most this fraction of its eigenvalue, or of the size of rounding.", "X"
    )
    max_hvp: int | None = option(None, "Most products that Lanczos may use. Default: 4 K + 100.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("topk", self.topk, 1)
        _at_least("tol", self.tol, 0, strictly=True)
        if self.max_hvp is not None and self.max_hvp < self.topk:
            raise SettingsError(
                f"--max-hvp {self.max_hvp} is less than --topk {self.topk}.",
                f"Lanczos needs at least one product an eigenvalue; try --max-hvp {4 * self.topk + 100}.",
            )

    def most_products(self) -> int:
        """Return the budget of Hessian-vector products, those that verify not counted."""
        return 4 * self.topk + 100 if self.max_hvp is None else self.max_hvp


@dataclass(frozen=True, kw_only=True)
class SharpnessSettings(AnalysisSettings):
    """How to measure Keskar's ε-sharpness."""

    epsilon: tuple[float, ...] = option((1e-3, 5e-4), "Box sizes ε, separated by commas.", "E[,E]")
    subspace: tuple[int, ...] = option(
        (0, 100), "Dimensions p of the random subspace, separated by commas; 0 is the full space.", "P[,P]"
    )
    iterations: int = option(10, "L-BFGS-B iterations of each solve (10 in the paper).", "N")
    restarts: int = option(2, "Solves from different random starts; the best counts.", "N")
    draws: int = option(3, "Random subspaces of each dimension; phi is the mean over them.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("epsilon", self.epsilon), ("subspace", self.subspace)):
            if not values:
                raise SettingsError(f"--{name} is empty.", f"Give --{name} at least one value.")
        for value in self.epsilon:
            _at_least("epsilon", value, 0, strictly=True)
        for dimension in self.subspace:
            _at_least("subspace", dimension, 0)
        _at_least("iterations", self.iterations, 1)
        _at_least("restarts", self.restarts, 1)
        _at_least("draws", self.draws, 1)


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(AnalysisSettings):
    """Where on the path between two solutions to evaluate, and how."""

    range: str = option("-0.5:1.5", "Range of α; 0 is A and 1 is B, and both are always included.", "LO:HI")
    points: int = option(21, "Evenly spaced values of α, ends included.", "N")
    path: str = option("linear", "linear, or arc: sin(απ/2)·B + cos(απ/2)·A.", "NAME")
    split: str = option("both", "train, test or both.", "NAME")
    bn: str = option(
        "recompute", "BatchNorm statistics along the path: recompute them at each point, or eval (stored ones, mixed).", "NAME"
    )

    def __post_init__(self) -> None:
        SubjectSettings.__post_init__(self)
        _choice("split", self.split, (*SPLITS, "both"))
        _choice("path", self.path, PATHS)
        _choice("bn", self.bn, BN_POLICIES)
        _at_least("points", self.points, 2)
        self.bounds()
        _at_least("samples", self.samples, 1)
        _at_least("batch-size", self.batch_size, 1)

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest α.

        Raises:
            SettingsError: The range is not LO:HI with LO < HI, both finite.
        """
        low, _, high = self.range.partition(":")
        try:
            bounds = float(low), float(high)
        except ValueError:
            raise SettingsError(f"--range '{self.range}' is not LO:HI.", "Write it as --range -0.5:1.5.") from None
        if not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[1]:
            raise SettingsError(
                f"--range {self.range} does not rise from a lower to a higher number.",
                f"Turn it round: --range {high}:{low}." if bounds[0] > bounds[1] else "Write it as --range -0.5:1.5.",
            )
        return bounds


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(AnalysisSettings):
    """From where to measure. Only weights are read: of the shared options none changes the answer."""

    init: str | None = option(None, "Reference weights. Default: the initial weights of the checkpoint's own run.", "FILE")
    per_layer: bool = option(False, "Add one row a layer.")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(AnalysisSettings):
    """Which numbers stand beside each other."""

    metrics: tuple[str, ...] = option(
        METRICS, "What to measure beside losses, accuracies and gaps: hessian, sharpness, distance.", "NAME[,NAME]"
    )
    epsilon: float = option(1e-3, "Box size ε of the full-space ε-sharpness.", "E")
    tol: float = option(1e-3, "Tolerance of the largest eigenvalue, relative.", "X")
    init: str | None = option(None, "Reference weights of the distance. Default: those of each checkpoint's run.", "FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics:
            _choice("metrics", name, METRICS)
        _at_least("epsilon", self.epsilon, 0, strictly=True)
        _at_least("tol", self.tol, 0, strictly=True)


@dataclass(frozen=True, kw_only=True)
class InspectSettings(AnalysisSettings):
    """What to check a file against."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(SubjectSettings):
    """How to train. What is None is filled in by the mode (`sharpcli.training.methods`)."""

    model: str | None = option("convnet", "Model: a built-in name, torchvision:NAME, file.py:fn or pkg.mod:attr.", "SPEC")
    data: str | None = option("fashion-mini", "Data: a built-in name, npz:FILE or folder:PATH.", "SPEC")
    loss: str | None = option("ce", "ce (cross-entropy) or mse (half the squared error), mean over samples.", "NAME")
    mode: tuple[str, ...] = option(
        ("sgd",),
        "sgd, largebatch, fullbatch; several, separated by commas, start from the same initial weights.",
        "NAME[,NAME]",
    )
    out: str | None = option(None, "Folder of the run. Default: runs/MODEL-DATA-sSEED.", "PATH")
    epochs: float | None = option(None, "Passes over the training set.", "X")
    steps: int | None = option(None, "Updates, instead of --epochs.", "N")
    batch_size: int | None = option(None, "Samples an update averages over.", "N")
    chunk_size: int | None = option(
        None, "Samples held at once; without BatchNorm it changes the gradient by rounding only.", "N"
    )
    optimizer: str | None = option(None, "sgd or adam.", "NAME")
    lr: float | None = option(None, "Peak learning rate.", "X")
    lr_scale: str | None = option(None, "Scale --lr by the batch size over 64: none, sqrt (Hoffer 2017) or linear.", "NAME")
    momentum: float | None = option(None, "Momentum of SGD (Nesterov); β1 of Adam.", "X")
    weight_decay: float | None = option(None, "L2 penalty added to the gradient; never part of the loss that is reported.", "X")
    schedule: str | None = option(None, "cosine, constant, or step: a tenth at 1/2 and again at 3/4.", "NAME")
    warmup: float | None = option(None, "Fraction of the updates over which the learning rate rises linearly.", "X")
    clip: float | None = option(None, "Clip the L2 norm of the mean gradient, before weight decay; 0 is off.", "X")
    stop_train_loss: float | None = option(
        None, "Stop once the loss over the whole training set is at most this; evaluates 5x as often when near.", "X"
    )
    eval_every: int | None = option(None, "Updates between two evaluations. Default: an epoch; 10 for fullbatch.", "N")
    save_every: int | None = option(None, "Keep a checkpoint step-N.pt every N updates.", "N")
    init: str | None = option(None, "Start from these weights instead of random ones.", "FILE")
    overwrite: bool = option(False, "Replace an existing run.")
    resume: bool = option(False, "Continue an interrupted run from its last saved state.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mode:
            raise SettingsError("--mode is empty.", "Choose one: --mode sgd.")
        if len(set(self.mode)) < len(self.mode):
            raise SettingsError("--mode names the same mode twice.", "Name each mode once.")
        if self.epochs is not None and self.steps is not None:
            raise SettingsError("--epochs and --steps are both given.", "Give one of the two.")
        if self.overwrite and self.resume:
            raise SettingsError("--overwrite and --resume are both given.", "Give one of the two.")
        _choice("optimizer", self.optimizer or "sgd", OPTIMIZERS)
        _choice("schedule", self.schedule or "cosine", SCHEDULES)
        _choice("lr-scale", self.lr_scale or "none", LR_SCALES)
        for name in ("epochs", "lr", "stop_train_loss"):
            _at_least(name.replace("_", "-"), getattr(self, name), 0, strictly=True)
        for name in ("steps", "batch_size", "chunk_size", "eval_every", "save_every"):
            _at_least(name.replace("_", "-"), getattr(self, name), 1)
        for name in ("weight_decay", "clip", "momentum", "warmup"):
            _at_least(name.replace("_", "-"), getattr(self, name), 0)
        for name in ("momentum", "warmup"):
            if (getattr(self, name) or 0) >= 1:
                raise SettingsError(
                    f"--{name} is {getattr(self, name):g}, but must be below 1.", f"Give --{name} another value."
                )
