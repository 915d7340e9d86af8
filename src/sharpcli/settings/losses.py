"""Losses as text: `ce`, `mse`, `bce`, and their options, such as `ce:weight=1/4,smoothing=0.1`. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from sharpcli.errors import SettingsError, closest

LOSSES = ("ce", "mse", "bce")
IGNORED = -100  # torch's default of ignore_index.
UNIT_LOGITS = "ce-unit-logits"  # For a measure only; --loss does not accept it.
_LARGEST = 2**63  # No tensor holds a larger integer.
LAST, FIRST = -1, 1  # The two possible axes of the classes.

OPTIONS: dict[str, tuple[str, ...]] = {
    "ce": ("class_axis", "smoothing", "ignore_index", "weight"),
    "mse": ("class_axis", "ignore_index"),
    "bce": ("pos_weight", "weight", "ignore_index"),
    UNIT_LOGITS: ("class_axis", "ignore_index", "weight"),
}
_SAME = {"cross_entropy": "ce", "crossentropy": "ce", "cross-entropy": "ce", "binary_cross_entropy": "bce"}
_AXES = {"1": FIRST, "last": LAST, "-1": LAST}


@dataclass(frozen=True)
class LossSpec:
    """A loss and its options. `str` gives the shortest text that `parse` reads back.

    Attributes:
        name: "ce", "mse", "bce" or, for a measure, "ce-unit-logits"; or the spec of a function, `file.py:fn` or `pkg.mod:fn`.
        class_axis: Axis of the classes in the outputs: 1, -1 (the last), or None if the shapes decide.
        smoothing: Share of a target that is spread over all classes, 0 to below 1.
        ignore_index: An integer target without a loss term, in addition to -100.
        weight: Weight of each class of "ce", in the order of the classes: the mean is divided by the sum of the weights of the
            targets. Weight of each label of "bce": the mean is divided by the number of labels. Empty: every weight is 1.
        pos_weight: Weight of a positive element of "bce", one for all labels or one for each; a negative element has weight 1.
    """

    name: str
    class_axis: int | None = None
    smoothing: float = 0.0
    ignore_index: int = IGNORED
    weight: tuple[float, ...] = ()
    pos_weight: tuple[float, ...] = (1.0,)

    @staticmethod
    def parse(text: str) -> LossSpec:
        """Read NAME[:option=value[,option=value...]]; "ce:0.1" is an older spelling of "ce:smoothing=0.1".

        Raises:
            SettingsError: There is no such loss, it has no such option, or a value is out of range.
        """
        name, colon, options = text.partition(":")
        if loss_is_code(text):
            return LossSpec(text)
        if name not in OPTIONS:
            likely = _SAME.get(name.lower(), name.lower())
            raise SettingsError(f"There is no loss called '{name}' for --loss.", closest(likely, [*LOSSES, "file.py:fn"]))
        if colon and not options:
            raise SettingsError(f"The loss '{text}' has no option after its colon.", _known(name))
        if name == "ce" and is_number(options):
            options = f"smoothing={options}"
        spec, given = LossSpec(name), set[str]()
        for part in options.split(",") if options else ():
            option, equals, value = (word.strip() for word in part.partition("="))
            if not equals and option in OPTIONS[name]:
                raise SettingsError(f"The loss option {option} in '{text}' has no value.", _known(name))
            if is_number(part) and given & {"weight", "pos_weight"}:
                raise SettingsError(f"The weights in '{text}' are separated by commas.", f"Use /, as in {name}:weight=1/4.")
            if not equals or option not in OPTIONS[name]:
                raise SettingsError(f"The loss {name} has no option '{part.strip()}'.", _known(name))
            if option in given:
                raise SettingsError(f"The loss '{text}' has the option {option} twice.", "Give each option once.")
            given.add(option)
            change: dict[str, Any] = {option: _value(option, value)}
            spec = replace(spec, **change)
        if spec.smoothing and 0 in spec.weight:
            raise SettingsError(
                f"The loss '{text}' has a class of weight 0 and smoothing, so a target without weight would still have a loss.",
                "Leave smoothing out, or give the class a small weight.",
            )
        return spec

    @property
    def is_weighted(self) -> bool:
        """Whether classes, labels or positive elements have a weight, so that a loss term is not -log p."""
        return bool(self.weight) or any(weight != 1 for weight in self.pos_weight)

    @property
    def is_code(self) -> bool:
        """Whether the loss is a function of the user's code."""
        return loss_is_code(self.name)

    def __str__(self) -> str:
        given = [entry.name for entry in fields(self)[1:] if getattr(self, entry.name) != entry.default]
        words = [f"{option}={_text(option, getattr(self, option))}" for option in given]
        return f"{self.name}:{','.join(words)}" if words else self.name


def _text(option: str, value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "/".join(str(weight) for weight in value)
    return "last" if option == "class_axis" and value == LAST else str(value)


def loss_is_code(text: str) -> bool:
    """Return whether a text names a loss by code, `file.py:fn` or `pkg.mod:fn`."""
    source, colon, name = text.rpartition(":")
    return bool(colon) and "." in source and name.replace(".", "_").isidentifier()


def smoothed(name: str, share: float) -> str:
    """Return the name of a loss with this share of its targets smoothed; with a share of 0 the name is unchanged.

    Raises:
        SettingsError: The loss is not cross-entropy, or its options already contain smoothing.
    """
    spec = LossSpec.parse(name)
    if not share:
        return name
    if spec.name != "ce" or spec.smoothing:
        raise SettingsError("--label-smoothing needs --loss ce without smoothing.", "Leave it out, or use --loss ce.")
    return str(replace(spec, smoothing=share))


def unit_logits(name: str) -> str | None:
    """Return the name of the cross-entropy of logits with mean 0 and norm 1, with the same options.

    Return None if the loss is not cross-entropy, or is cross-entropy with smoothing. Class weights are allowed.
    """
    spec = LossSpec.parse(name)
    return str(replace(spec, name=UNIT_LOGITS)) if spec.name == "ce" and not spec.smoothing else None


def _known(name: str) -> str:
    examples = {"class_axis": "class_axis=1|last", "ignore_index": "ignore_index=N", "weight": "weight=X/X/..."}
    words = [examples.get(option, f"{option}=X") for option in OPTIONS[name]]
    return f"Its options are {', '.join(words)}, as in {name}:{words[0].partition('|')[0]}."


def is_number(text: str) -> bool:
    """Return whether a text is a number in Python syntax."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value(option: str, text: str) -> float | tuple[float, ...]:
    if option in ("weight", "pos_weight"):
        return _weights(option, text)
    if option == "class_axis":
        if text not in _AXES:
            raise SettingsError(f"class_axis cannot be '{text}'.", "Use 1, the axis of torch's cross_entropy, or last.")
        return _AXES[text]
    try:
        number = int(text) if option == "ignore_index" else float(text)
        if option == "ignore_index" and abs(number) >= _LARGEST:
            raise ValueError
    except ValueError:
        kind = "an integer" if option == "ignore_index" else "a number"
        raise SettingsError(f"The loss option {option} cannot be '{text}'.", f"It takes {kind}.") from None
    if option == "smoothing" and not 0 <= number < 1:
        raise SettingsError(f"smoothing is {text}, but must be from 0 to below 1.", "Write it like ce:smoothing=0.1.")
    return number


def _weights(option: str, text: str) -> tuple[float, ...]:
    words = text.split("/")
    example = (
        "bce:pos_weight=2, or bce:pos_weight=2/5 for two labels" if option == "pos_weight" else "ce:weight=1/4 for two classes"
    )
    if not all(is_number(word) for word in words):
        raise SettingsError(f"The loss option {option} cannot be '{text}'.", f"Write it like {example}.")
    weights = tuple(float(word) for word in words)
    least = "above 0" if option == "pos_weight" else "at least 0, one of them above 0,"
    negative = min(weights) < 0 or (min(weights) == 0 and (option == "pos_weight" or max(weights) == 0))
    if negative or not all(math.isfinite(weight) for weight in weights):
        raise SettingsError(f"{option} is {text}, but must be {least} and finite.", f"Write it like {example}.")
    return weights
