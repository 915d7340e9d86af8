"""Results in a notebook: text, HTML, figure and DataFrame hold the numbers of the result."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from matplotlib import image
from rich.console import Console

import sharpcli
from sharpcli.errors import SettingsError
from sharpcli.render.tables import _DRAWERS, show
from sharpcli.results import Result

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
FEW: dict[str, Any] = {"samples": 64}
MAKERS: dict[str, Callable[[], Result]] = {
    "HessianResult": lambda: sharpcli.hessian(SAMPLES / "sgd", topk=3, **FEW),
    "SharpnessResult": lambda: sharpcli.sharpness(SAMPLES / "sgd", measure=("gradient-norm", "fisher-rao"), **FEW),
    "PathResult": lambda: sharpcli.interpolate(SAMPLES / "sgd", SAMPLES / "fullbatch", points=3, **FEW),
    "DistanceResult": lambda: sharpcli.distance(SAMPLES / "sgd", per_layer=True),
    "CompareResult": lambda: sharpcli.compare([SAMPLES / "sgd", SAMPLES / "fullbatch"], metrics="distance", **FEW),
    "SurfaceResult": lambda: sharpcli.surface(SAMPLES / "sgd", points=3, **FEW),
    "InspectResult": lambda: sharpcli.inspect(SAMPLES / "sgd"),
    "RunsResult": lambda: sharpcli.inspect(SAMPLES),
}
COLUMNS = {
    "HessianResult": ("index", "value", "lower", "upper", "residual", "verdict"),
    "SharpnessResult": ("measure", "value", "standard_error"),
    "PathResult": ("alpha", "train_loss", "test_accuracy"),
    "DistanceResult": ("name", "distance", "cosine"),
    "CompareResult": ("label", "gap", "distance"),
    "SurfaceResult": ("alpha", "beta", "loss"),
    "InspectResult": ("name", "shape"),
    "RunsResult": ("folder", "state"),
}


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {name: maker() for name, maker in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_every_result_has_a_table_of_plain_values(name: str, results: dict[str, Result]) -> None:
    frame = results[name].to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(results[name].records()) > 0
    assert set(COLUMNS[name]) <= set(frame.columns)


def test_the_tables_hold_the_numbers(results: dict[str, Any]) -> None:
    frame = results["HessianResult"].to_frame()
    assert frame["value"].tolist() == [row.value for row in results["HessianResult"].eigenvalues]
    assert ((frame["lower"] <= frame["value"]) & (frame["value"] <= frame["upper"])).all()
    path = results["PathResult"]
    assert path.to_frame()["train_loss"].tolist() == list(path.curves[0].loss)
    surface = results["SurfaceResult"]
    grid = surface.to_frame().pivot(index="beta", columns="alpha", values="loss").to_numpy()
    assert numpy.array_equal(grid, numpy.array(surface.loss))
    assert results["CompareResult"].to_frame()["label"].tolist() == ["sgd", "fullbatch"]


@pytest.mark.parametrize("name", MAKERS)
def test_the_page_has_the_cells_of_the_terminal(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    page = result._repr_html_()
    assert page.count("<table>") == page.count("</table>") > 0
    assert page.startswith("<div>")
    assert page.endswith("</div>")
    buffer = io.StringIO()
    show([result], Console(file=buffer, width=10_000))
    printed = buffer.getvalue()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert cells
    assert all(word in printed or word == "–" for cell in cells for word in html.unescape(cell).split())


@pytest.mark.parametrize("name", MAKERS)
def test_printed_a_result_is_its_tables_and_its_repr_is_one_short_line(name: str, results: dict[str, Result]) -> None:
    text, short = str(results[name]), repr(results[name])
    assert "\x1b" not in text
    assert text.count("\n") > 2
    assert short.startswith(f"{name}(")
    assert len(short) < 160
    assert "\n" not in short
    assert "settings=" not in text + short


def test_a_repr_has_the_main_numbers(results: dict[str, Any]) -> None:
    top = results["HessianResult"].lambda_max
    assert repr(results["HessianResult"]) == f"HessianResult('sgd', lambda_max={top:.5g}, 3 eigenvalues, converged=True)"
    assert repr(results["SharpnessResult"]) == "SharpnessResult('sgd', 2 readings)"
    assert repr(results["CompareResult"]) == "CompareResult(2 rows)"
    assert repr(results["PathResult"]).startswith("PathResult('sgd', 'fullbatch', path='linear', barrier=")


def test_names_and_warnings_are_text_not_html(results: dict[str, Any]) -> None:
    from dataclasses import replace

    result = results["CompareResult"]
    row = replace(result.rows[0], checkpoint=replace(result.rows[0].checkpoint, label="<b>&"))
    page = replace(result, rows=(row,), warnings=("the loss <is> & odd",))._repr_html_()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert "warning: the loss &lt;is&gt; &amp; odd" in page
    assert "warning: the loss <is> & odd" in str(replace(result, warnings=("the loss <is> & odd",)))


def test_figures_are_shown_and_can_be_saved(results: dict[str, Any], tmp_path: Path) -> None:
    figure = results["PathResult"].plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "p.png")
    assert image.imread(tmp_path / "p.png").std() > 0.05
    both = results["HessianResult"].plot(results["HessianResult"])
    assert len(both.axes) >= 2
    with pytest.raises(SettingsError, match="There is no figure of InspectResult"):
        results["InspectResult"].plot()
    with pytest.raises(SettingsError, match="There is no figure of PathResult and HessianResult"):
        results["PathResult"].plot(results["HessianResult"])


def test_every_kind_of_result_is_shown() -> None:
    """A new kind of result needs tables, and then has text and a page."""
    assert {kind.__name__ for kind in _DRAWERS} >= set(MAKERS)
    assert all("__repr__" not in vars(kind) for kind in _DRAWERS)
