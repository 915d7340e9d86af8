"""Every answer, shown at any width: no number and no name is cut, and no line is wider than the terminal."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from rich.cells import cell_len

from sharpcli import results
from sharpcli.render.console import console
from sharpcli.render.tables import show
from sharpcli.results import Result
from tests.contracts.invented import Invented
from tests.lanes import crossed

WIDTHS = (40, 60, 80, 100, 120)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")

# What a table leaves to the JSON document, by class: fields, and all that is in them.
MOMENTS = ("moments.trace", "moments.frobenius_norm")
SUBJECT = {
    f"Subject.{name}"
    for name in (
        "sha256", "label", "data_fingerprint", "step", "epochs", "batch_size", "seed", "optimizer", "learning_rate",
        "last_learning_rate", "momentum", "momentum_rule", "weights", "model", "data", "mode",
    )
}  # fmt: skip
CONDITIONS = {"Conditions.chunk_size", "Conditions.engine"}
HEADING = {"Subject.model", "Subject.data", "Subject.mode"}
LEFT_OUT: dict[str, set[str]] = {
    "CompareResult": SUBJECT - {"Subject.label"}
    | {
        f"rows.readings.{name}"
        for name in ("measure", "options", "unit", "details", "passes", "seconds", "note", "status", "bound")
    }
    | {"Subject.path", "rows.accuracy_gap", "rows.accuracy_gap_standard_error", "rows.lambda_max_residual"},
    "WatchResult": SUBJECT
    | {
        f"rows.readings.{name}"
        for name in ("measure", "options", "unit", "details", "passes", "seconds", "note", "status", "bound")
    }
    | {"Subject.path", "rows.run"},
    "InspectResult": {"Subject.label", "Subject.data_fingerprint", "Subject.epochs", "Subject.last_learning_rate"}
    | {"Subject.momentum", "Subject.momentum_rule", "Subject.step", "buffers", "left_out", "metadata", "seconds"}
    | {"cost.seconds", "cost.vector_bytes", "cost.pass_bytes"}  # Shown as minutes and MiB.
    | {f"run.{name}" for name in ("folder", "state", "step", "steps", "stopped_by", "checkpoint", "checkpoint_step", "go_on")},
    "DistanceResult": SUBJECT
    | {"ties", "buffers", "seconds", "trajectory.stretches", "steps.path", "steps.norm", "steps.init_norm", "steps.max_change"}
    | {"steps.layers", "growth.steps", "growth.distances", "growth.fits", "growth.preferred", "growth.aic_difference"},
    "PathResult": SUBJECT | {"curvature.verdicts", "barrier", "straight"},
    "SurfaceResult": SUBJECT - HEADING
    | CONDITIONS
    | {"Conditions.batch_norm", "Conditions.device", "Conditions.dtype", "Conditions.num_parameters"}
    | {"loss", "alphas", "betas", "explained", "eigenvalues"},
    "HessianResult": SUBJECT - HEADING
    | {"Conditions.chunk_size", "operator", "ended", "residual_history", "last_learning_rate", "orthogonality"}
    | {"eigenvalues.index", "eigenvalues.index_interval", "eigenvalues.index_range", "eigenvalues.interval"}
    | {"floor.probability", "moments.products", "layers.products", "layers.kind", "layers.density", "density"}
    | {f"block_distances.{name}" for name in ("distances", "halves", "names")}  # Names are those of the layers.
    | {
        f"{place}.{name}"
        for place in ("layers.trace", "layers.effective_rank", *MOMENTS)
        for name in ("samples", "standard_error")
    },
    "DoctorResult": {"devices.memory", "devices.free"},  # Shown as GiB.
    "MeasuresResult": {"seconds"},
    "ReparamResult": SUBJECT | {"seconds"},
    "SharpnessResult": SUBJECT - HEADING
    | CONDITIONS
    | {"seconds", "readings.measure", "readings.options", "readings.status", "measurements.measure"}
    | {f"measurements.{name}" for name in ("max_loss", "phi_of_draws", "passes", "iterations", "solver_messages", "seconds")},
    "RunsResult": {"seconds", "rows.sentence", "rows.stopped_by", "rows.checkpoint_step"},
    "RecipesResult": {"seconds", "rows.sets", "rows.source"},
    "TrainResult": {"run", "init_sha256", "seconds"}
    | {"rows.mode", "rows.recipe", "rows.folder", "rows.learning_rate", "rows.seed"},
}
# What one answer does not show, since it shows something else instead.
INSTEAD = {
    "SharpnessResult": {"measurements"},
    "SharpnessResult, bare": {"measurements", "readings.details"},
    "HessianResult, no eigenvalues": {"index_probability"},
    "ReparamResult": {"into"},  # Heads of attention have no such layer.
}


def every_kind() -> list[type[Result]]:
    """Return the class of every command's answer, also of one that was added today."""
    return sorted(
        {value for value in vars(results).values() if isinstance(value, type) and issubclass(value, Result)} - {Result}, key=str
    )


@cache
def answers() -> dict[str, Sequence[Result]]:
    """Return answers by name: one of every kind, the same without what need not be there, and what looks different."""
    made: dict[str, Sequence[Result]] = {}
    for kind in every_kind():
        made[kind.__name__] = [Invented().instance(kind)]
        made[f"{kind.__name__}, bare"] = [Invented(bare=True).instance(kind)]
    source = Invented()
    made["SharpnessResult, measurements"] = [source.instance(results.SharpnessResult, readings=())]
    made["HessianResult, several"] = [source.instance(results.HessianResult) for _ in range(3)]
    made["HessianResult, no eigenvalues"] = [source.instance(results.HessianResult, eigenvalues=())]
    made["HessianResult, one eigenvalue"] = [
        source.instance(results.HessianResult, eigenvalues=(source.instance(results.Eigenvalue),))
    ]
    ends = [source.instance(results.Subject) for _ in range(4)]
    made["PathResult, several"] = [
        source.instance(results.PathResult, start=a, end=b) for place, a in enumerate(ends) for b in ends[place + 1 :]
    ]
    return made


def shown(answer: Sequence[Result]) -> str:
    stream = io.StringIO()
    show(answer, console(stream))
    return stream.getvalue()


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """List every number and text of an answer, with the fields on the way to it; those of a Subject begin with its name."""
    if dataclasses.is_dataclass(value):
        start = f"{type(value).__name__}." if isinstance(value, results.Subject | results.Conditions) else place and f"{place}."
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), start + field.name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield place, key
            yield from leaves(item, place)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item, place)
    elif value is not None and not isinstance(value, bool):
        yield place, value


def is_left_out(place: str, left: set[str]) -> bool:
    return any(place == one or place.startswith(f"{one}.") for one in left)


def missing(answer: Sequence[Result], text: str) -> set[str]:
    """Return the fields of an answer whose values are not all in a text."""
    words, found = squeezed(text), numbers(text)
    exact, rounded = {float(one) for one in found}, [(float(one), unit(one)) for one in found]
    lost = set()
    for place, value in (leaf for result in answer for leaf in leaves(result)):
        if isinstance(value, str):
            there = squeezed(value) in words
        elif isinstance(value, int) or not math.isfinite(value):
            there = value in exact
        else:
            there = any(
                abs(one - wanted) <= 1.001 * size and (size <= 0.11 * abs(wanted) or abs(one - wanted) <= 1e-3 * abs(wanted))
                for one, size in rounded
                for wanted in (value, 100 * value)
            )
        if not there:
            lost.add(place)
    return lost


def squeezed(text: str) -> str:
    """Return a text without spaces, ends of lines and what joins the lines of a command."""
    return re.sub(r"\\\n|[\s_]", "", text)


def numbers(text: str) -> set[str]:
    """Return the numbers in a text, as they are printed."""
    return {found[0] for found in _NUMBER.finditer(text)}


def unit(text: str) -> float:
    """Return one unit of the last digit of a number as it is printed."""
    mantissa, _, exponent = text.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


@pytest.mark.parametrize("name", answers())
def test_a_pipe_gets_every_number_and_every_name(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    answer = answers()[name]
    left = LEFT_OUT.get(type(answer[0]).__name__, set()) | INSTEAD.get(name, set()) | {"settings", "provenance", "warnings"}
    assert {place for place in missing(answer, shown(answer)) if not is_left_out(place, left)} == set()


def test_what_is_left_out_is_there():
    """A field that was renamed does not stay in the list."""
    for kind in every_kind():
        places = {place for place, _ in leaves(Invented().instance(kind))}
        for one in LEFT_OUT.get(kind.__name__, set()):
            assert any(is_left_out(place, {one}) for place in places), one


@pytest.mark.parametrize(("name", "width"), crossed(answers(), WIDTHS))
def test_no_width_cuts_anything(name: str, width: int, monkeypatch: pytest.MonkeyPatch):
    answer = answers()[name]
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = shown(answer)
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(answer)
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert numbers(whole) - numbers(text) == set()
    assert missing(answer, text) - missing(answer, whole) == set()
    assert re.findall(r"\d…(?!\S)|…(?=  |$)", text, re.MULTILINE) == []
