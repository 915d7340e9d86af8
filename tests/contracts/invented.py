"""Invented answers: an instance of any result class, made from its fields, with names and numbers that are hard to show."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

POINTS = 21  # Items of a tuple of any length: a path has 21 points.
FEW = 3  # Entries of a dictionary, and of a tuple of dataclasses.
COUNTS = {"curves": 2, "eigenvalues": 20, "layers": 20, "rows": 6, "measurements": 4, "notes": 2, "warnings": 0}
COUNTS |= {"phi_of_restarts": 6, "phi_of_sign_ascent": 6, "turns": 5, "tensors": 5, "dtypes": 2, "thresholds": 2}
POSITIVE = ("residual", "error", "rounding", "noise_floor", "orthogonality", "lambda_max_residual", "distance", "norm")

_NAMES = (
    "runs/experiment_2026/very_long_name_of_a_run_small_batch_{}/final.pt",
    "layer4.{}.downsample.0.conv_projection.weight",
    "[red]x{}[/red]",
    "größe_λ_层_{}",
    "weights of {} words",
)
_SIZES = (1.0, 1e-13, 1e4, 1e-4, 1e17, 1e2)

# Standard errors, and what they are of.
_ERRORS = {
    "standard_error": ("value", "phi"),
    "gap_standard_error": ("gap",),
    "held_out_standard_error": ("held_out",),
}

# What cannot be anything: by class and field, or by field alone.
CHOICES: dict[str, tuple[Any, ...]] = {
    "verdict": ("certified", "noise-limited", "budget-limited"),
    "verdicts": (("certified", "noise-limited", "budget-limited") * (POINTS // 3),),
    "known_by": ("model",),
    "passed": (True, False, None),
    "index_probability": (0.98,),
    "verified": (True, False),
    "index_confirmed": (True, False),
    "operator": ("hessian",),
    "split": ("train", "test"),
    "bound": ("lower", None),
    "lengths": ((12345.678, 0.00012345),),
    "momentum_rule": ("polyak",),
    "share": (0.123, 0.456, 0.789),
    "share_at_bound": (0.1234, 0.5678),
    "aligned_share": (0.8765,),
    "subspace": (None, 100),
    "settings": ({"split": "train", "params": (), "vectors": None},),
    "seconds": (12.3, 45.6, 789.1),
    "networks": ("some nets",),
    "note": ("A note.",),
    "provenance": ({},),
    "next_commands": (("sharpcli hessian 'my runs/a.pt' --topk 20", "sharpcli compare runs/a/final.pt runs/b/final.pt"),),
    "source": ("Somebody, Conference 2026, arXiv 2601.00001: Table 1", "Somebody, Conference 2026, arXiv 2601.00001: Table 2"),
}


class Invented:
    """Makes instances; no number and no name comes twice."""

    def __init__(self, *, bare: bool = False) -> None:
        """Leave out what need not be there, if `bare`."""
        self.bare = bare
        self._numbers = itertools.count()
        self._names = itertools.count(1)
        self._chosen: dict[str, Iterator[Any]] = {}

    def instance(self, kind: type[Any], **given: Any) -> Any:
        """Return an instance of a dataclass, with these values for some fields."""
        hints, fields = get_type_hints(kind), {entry.name for entry in dataclasses.fields(kind)}
        values = {name: self._value(name, hint) for name, hint in hints.items() if name in fields}
        if {"value", "interval"} <= set(values):
            around = abs(values["value"]) / 8000
            values["interval"] = (values["value"] - around, values["value"] + around)
        if {"value", "lower", "upper"} <= set(values):
            around = abs(values["value"])
            values |= {"lower": values["value"] - 0.123 * around, "upper": values["value"] + 0.234 * around}
        for error, of in _ERRORS.items():
            for name in of:
                if values.get(error) is not None and values.get(name) is not None:
                    values[error] = float(f"{abs(values[name]) / 73:.2g}")
        return kind(**(values | given))

    def number(self) -> float:
        """Return a number of five digits that was not there before: large, small, or negative."""
        count = next(self._numbers)
        mantissa = 1.0 + (count * 0.61803 % 1) * 8.9
        return float(f"{mantissa * _SIZES[count % len(_SIZES)] * (-1) ** (count % 4 == 3):.5g}")

    def name(self) -> str:
        """Return a name that was not there before."""
        count = next(self._names)
        return _NAMES[count % len(_NAMES)].format(count)

    def _value(self, field: str, hint: Any) -> Any:
        if field in CHOICES:
            return next(self._chosen.setdefault(field, itertools.cycle(CHOICES[field])))
        return self._of(field, hint)

    def _of(self, field: str, hint: Any) -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        if isinstance(hint, types.UnionType):
            return None if self.bare else self._of(field, inner[0])
        if hint is float and "accuracy" in field:
            return round(0.1 + next(self._numbers) * 0.61803 % 0.9, 4)
        if hint is float and any(word in field for word in POSITIVE):
            return abs(self.number())
        if origin is tuple:
            if inner[-1] is not Ellipsis:
                return tuple(self._of(field, item) for item in inner)
            count = COUNTS.get(field, FEW if dataclasses.is_dataclass(inner[0]) else POINTS)
            return tuple(self._of(field, inner[0]) for _ in range(count))
        if origin is dict:
            return {self.name(): self._of(field, inner[1]) for _ in range(FEW)}
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            return self.instance(hint)
        made = {bool: lambda: True, int: lambda: 1000 + next(self._numbers), float: self.number, str: self.name}
        return made[hint]() if hint in made else self.number()
