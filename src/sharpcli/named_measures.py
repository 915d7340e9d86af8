"""Measures from text: `NAME[:option=value,...]` is checked against the options of the measure."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from sharpcli import plugins
from sharpcli.arguments import check_arguments, parse_arguments, typed
from sharpcli.errors import SettingsError
from sharpcli.measures import GIVEN
from sharpcli.measures.critical_sharpness import Update
from sharpcli.objective import Objective
from sharpcli.results import Reading

_FOLDER = "measures"
_ALL = "all"
_SIZES = ("epsilon", "rho", "sigma", "radius", "target", "m", "gamma")


@dataclass(frozen=True)
class RequestedMeasure:
    """One measure with its options."""

    name: str
    plug_in: ModuleType
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """The measure with the options that were given, as text that `requested_measures` reads."""
        options = ",".join(f"{name}={typed(value)}" for name, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name

    def read(self, objective: Objective, theta: Tensor, seed: int, update: Update | None = None) -> Reading:
        """Return the reading of the measure.

        Args:
            objective: The mean loss.
            theta: The weights, shape (P,).
            seed: Seed of all random numbers.
            update: Function from a direction and a split to a direction (P,), for measures that have such options.
        """
        given = {"update": update} if "update" in inspect.signature(self.plug_in.read).parameters else {}
        reading: Reading = self.plug_in.read(objective, theta, seed=seed, **given, **self.options)
        return reading


def requested_measures(texts: Sequence[str]) -> list[RequestedMeasure]:
    """Return the measures that the texts request; "all" means every measure in every variant that its file lists.

    Raises:
        SettingsError: An unknown measure or option, or a value of the wrong type.
    """
    requested = []
    for text in texts:
        name, _, options = text.partition(":")
        if name == _ALL:
            if options:
                raise SettingsError("--measure all takes no options.", "Name the measures one by one.")
            for each in plugins.names(_FOLDER):
                plug_in = plugins.load(_FOLDER, each)
                requested += [RequestedMeasure(each, plug_in, dict(variant)) for variant in plug_in.VARIANTS]
            continue
        plug_in = plugins.load(_FOLDER, name.replace("_", "-"))
        chosen = parse_arguments(_pieces(options))
        chosen = {key: str(value) if key == "norm" else _switch(value) for key, value in chosen.items()}
        check_arguments(plug_in.read, chosen, reserved=GIVEN)
        requested.append(RequestedMeasure(name.replace("_", "-"), plug_in, chosen))
    return requested


def label_of(one: RequestedMeasure, reading: Reading) -> str:
    """Return the name of a measure with its size options, and with every option that differs from its default."""
    defaults = {name: option.default for name, option in inspect.signature(one.plug_in.read).parameters.items()}
    shown = {key: value for key, value in reading.options.items() if value != defaults[key] or key in _SIZES}
    return " ".join([one.name, *(f"{key}={typed(value)}" for key, value in shown.items())])


def _pieces(options: str) -> list[str]:
    return [piece for piece in options.split(",") if piece.strip()]


def _switch(value: object) -> object:
    """Convert the texts "true" and "false" of a command line to booleans."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
