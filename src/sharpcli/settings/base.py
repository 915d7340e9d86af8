"""Settings of the commands: frozen dataclasses that check their values when they are made.

Each field contains its help text, and `sharpcli.cli.options` makes the options of a command from the fields of a class. So a
setting is defined in one place. These modules use the standard library only.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeVar, cast, get_args, get_type_hints

from sharpcli.errors import SettingsError, closest
from sharpcli.settings.losses import LOSSES, LossSpec

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "float64")
SPLITS = ("train", "test")
TOLERANCE = 1e-3  # Default relative tolerance of an eigenvalue.
PATH_BN_POLICIES = ("recompute", "eval")  # BatchNorm statistics between checkpoints.
REPEATED = (
    "model_arg",
    "data_arg",
    "params",
    "sweep",
    "measure",
    "track",
)  # Options that are repeated for several values; other tuples are one text with commas.


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
_Settings = TypeVar("_Settings")


def option(default: Any, text: str, metavar: str | None = None, panel: str | None = None) -> Any:
    """Declare a setting: its default, its help text, the name of its value, and its panel in `--help`."""
    return field(default=default, metadata={"help": text, "metavar": metavar, "panel": panel})


def chosen(kind: type[_Settings], settings: _Settings | None, options: Mapping[str, object]) -> _Settings:
    """Return settings that are given as an object, or as values of their fields.

    Raises:
        SettingsError: Both are given, or a field is unknown.
    """
    if settings is not None and options:
        raise SettingsError("Settings and options are both given.", "Give one of the two.")
    known = {entry.name for entry in fields(cast("Any", kind))}
    for name in options:
        if name not in known:
            raise SettingsError(f"There is no setting called '{name}'.", closest(name, known))
    return settings if settings is not None else cast("Any", kind)(**options)


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has a type or one type of a union; an int is accepted as a float, a bool is not a number."""
    kinds = get_args(hint) or (hint,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _wrong_type(name: str, value: object, hint: Any) -> SettingsError:
    kinds = [_KINDS[kind] for kind in get_args(hint) or (hint,) if kind in _KINDS]
    several = "one or several of: " if isinstance(hint, types.GenericAlias) else ""
    return SettingsError(
        f"--{name.replace('_', '-')} cannot be {value!r}: it has the wrong type.", f"It takes {several}{' or '.join(kinds)}."
    )


def require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value of an option that is not one of the allowed values.

    Raises:
        SettingsError: The value is not allowed.
    """
    if value not in allowed:
        raise SettingsError(f"--{name} cannot be '{value}'.", closest(value, allowed))


def require_at_least(name: str, value: float | None, least: float, *, strictly: bool = False) -> None:
    """Refuse a number that is below `least`, or equal to it if `strictly`, or not finite; None is accepted.

    Raises:
        SettingsError: The number is not allowed.
    """
    if value is None:
        return
    if not math.isfinite(value):
        raise SettingsError(f"--{name} is {value:g}, which is not a finite number.", f"Give --{name} another value.")
    if value < least or (strictly and value == least):
        word = "greater than" if strictly else "at least"
        raise SettingsError(f"--{name} is {value:g}, but must be {word} {least:g}.", f"Give --{name} another value.")


@dataclass(frozen=True, kw_only=True)
class SubjectSettings:
    """Which model, data, loss and device to use; shared by every command.

    `former_names` maps former names of options to the present ones; the command line still accepts the former ones.
    """

    former_names: ClassVar[Mapping[str, str]] = {}

    model: str | None = option(
        None,
        "Model: a built-in name, torchvision:NAME, timm:NAME, hf[:CLASS], file.py:fn or pkg.mod:attr. "
        "Default: the one that the checkpoint names.",
        "SPEC",
    )
    model_arg: tuple[str, ...] = option((), "Argument of the model, such as width=32. Repeat for several.", "KEY=VALUE")
    num_classes: int | None = option(
        None, "Number of outputs to build the model with. Default: that of the file or the data.", "N"
    )
    weights: str | None = option(
        None,
        "Key of the weights to use in a file that holds several sets, such as state_dict_ema. FILE::KEY is for one file only.",
        "KEY",
    )
    ignore_keys: tuple[str, ...] = option(
        (), "Tensors of the file to leave out, as a glob such as 'head.*'. Repeat for several.", "GLOB"
    )
    allow_pickle: bool = option(
        False, "Open files that need code to be opened. Such a file can run any code: only for files that you trust."
    )
    data: str | None = option(
        None,
        "Data: fashion-mini, kjv-mini, mnist, cifar10, ..., npz:FILE, folder:PATH, file.py:fn or pkg.mod:fn. "
        "Default: the data that the checkpoint names.",
        "SPEC",
    )
    data_arg: tuple[str, ...] = option((), "Argument of the data set, such as size=32. Repeat for several.", "KEY=VALUE")
    transform: str | None = option(
        None,
        "Transform of images: mean=X,std=X with resize=N,crop=N; none; torchvision:WEIGHTS; timm:NAME; or file.py:fn. "
        "Default: that of the training.",
        "SPEC",
    )
    data_root: str = option("data", "Folder with the data sets of torchvision.", "PATH")
    download: bool = option(False, "Let torchvision download a data set that is missing.")
    loss: str | None = option(
        None,
        "ce (cross-entropy), mse (half the squared error), bce (binary), file.py:fn. Options: "
        "ce:weight=X/X,smoothing=X,class_axis=1|last,ignore_index=N, bce:pos_weight=X. Default: that of the file, else ce.",
        "SPEC",
    )
    output: str | None = option(
        None,
        "The outputs, if the model returns a dict or a tuple: a key, or an index from 0.",
        "KEY",
    )
    device: str = option("auto", "auto, cpu, cuda (cuda:1 for the second GPU) or mps.", "NAME")
    dtype: str = option("float32", "float32 or float64. Sums over samples are always in float64.", "NAME")
    seed: int = option(0, "Seed of all random numbers.", "N")
    deterministic: bool = option(
        False, "Use only kernels that give the same bits each time, also on CUDA, and measure no speeds to choose an engine."
    )

    def __post_init__(self) -> None:
        self._settle()
        if not re.fullmatch(r"cuda:\d{1,4}", self.device):
            require_choice("device", self.device, DEVICES)
        require_choice("dtype", self.dtype, DTYPES)
        if self.loss is not None:
            spec = LossSpec.parse(self.loss)
            require_choice("loss", LOSSES[0] if spec.is_code else spec.name, LOSSES)
        require_at_least("num-classes", self.num_classes, 1)
        require_at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise SettingsError(f"--seed {self.seed} is too large.", "Use a number below 2**63.")

    def _settle(self) -> None:
        """Convert fields with several values from a single value, a list or a text with commas, and check every type."""
        hints = get_type_hints(type(self))
        for name in (entry.name for entry in fields(self)):
            value, hint = getattr(self, name), hints[name]
            if isinstance(hint, types.GenericAlias):
                several = value if isinstance(value, list | tuple) else [value] if name in REPEATED else str(value).split(",")
                kind = get_args(hint)[0]
                try:
                    value = tuple(kind(item) for item in several)
                except (TypeError, ValueError):
                    raise _wrong_type(name, value, hint) from None
                object.__setattr__(self, name, value)
            elif not _fits(value, hint):
                raise _wrong_type(name, value, hint)
            if value == "" or (isinstance(value, tuple) and "" in value):
                word = name.replace("_", "-")
                raise SettingsError(f"--{word} is empty or has an empty part.", f"Give --{word} a value, or leave it out.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(SubjectSettings):
    """Settings of every analysis: the split, the number of samples, and the samples per pass."""

    _splits: ClassVar[tuple[str, ...]] = SPLITS
    former_names: ClassVar[Mapping[str, str]] = {"batch_size": "chunk_size"}
    split: str = option("train", "Split whose mean loss is analysed: train or test.", "NAME")
    samples: int | None = option(
        None, "Analyse a random subset of this many samples, drawn with --seed. Default: all samples.", "N"
    )
    chunk_size: int | None = option(
        None, "Samples per forward and backward pass. It changes memory and time, never the result. Default: automatic.", "N"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("split", self.split, self._splits)
        require_at_least("samples", self.samples, 1)
        require_at_least("chunk-size", self.chunk_size, 1)
