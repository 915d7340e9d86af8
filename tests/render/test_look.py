"""How figures look: text that is text, sizes, and scales that are told or equal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import sharpcli
from sharpcli.errors import SettingsError
from sharpcli.render.figures import draw, figure_of
from sharpcli.render.figures.hessian import draw_hessian
from sharpcli.results import (
    CompareResult,
    CompareRow,
    DistanceResult,
    Mark,
    PathResult,
    Reading,
    SharpnessResult,
    SurfaceResult,
)
from sharpcli.settings.look import Look, look_of
from tests.contracts.invented import Invented

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
ENDS = (SAMPLES / "sgd", SAMPLES / "fullbatch")


@pytest.fixture(scope="module")
def curve() -> PathResult:
    return sharpcli.interpolate(*ENDS, points=5, samples=200, path="bezier", bezier_steps=5)


@pytest.fixture(scope="module")
def distance() -> DistanceResult:
    return sharpcli.distance(SAMPLES / "sgd")


@pytest.fixture(scope="module")
def surface() -> SurfaceResult:
    return sharpcli.surface([SAMPLES / name for name in ("sgd", "largebatch", "fullbatch")], points=5, samples=100)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_text_is_text_in_every_format(curve: PathResult):
    """Venues refuse Type 3 fonts, and the text of an svg is found and edited."""
    pdf = draw([curve], Path("a.pdf"))
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf
    svg = draw([curve], Path("a.svg")).decode()
    assert re.search(r"<text [^>]*>accuracy \(%\)</text>", svg)


@pytest.mark.parametrize(
    ("look", "pixels"),
    [(Look(), (900, 870)), (Look(dpi=50, size=(4.0, 3.0)), (200, 150)), (Look("paper", (3.0, 3.0)), (450, 450))],
)
def test_size_and_dots_are_those_that_were_asked_for(look: Look, pixels: tuple[int, int], curve: PathResult, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(draw([curve], Path("a.png"), look))
    high, wide, _ = imread(tmp_path / "a.png").shape
    assert (wide, high) == pixels


def test_styles_differ_in_size_of_text_and_width_of_lines(curve: PathResult):
    screen, paper, talk = (figure_of([curve], Look(style=style)) for style in ("screen", "paper", "talk"))
    sizes: list[Callable[[Figure], float]] = [
        lambda figure: float(figure.axes[0].title.get_fontsize()),
        lambda figure: figure.axes[0].lines[0].get_linewidth(),
        lambda figure: figure.get_figwidth(),
    ]
    for size in sizes:
        assert size(paper) < size(screen) < size(talk)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"style": "papr"}, "style cannot be"),
        ({"size": "7"}, "is not a width and a height"),
        ({"size": "0.1x3"}, "from 1 to 60"),
        ({"dpi": 5}, "from 30 to 1200"),
        ({"size": "60x60", "dpi": 1200}, "too many pixels"),
    ],
)
def test_a_look_that_cannot_be_is_refused(wrong: dict[str, Any], message: str):
    with pytest.raises(SettingsError, match=message):
        look_of(**wrong)


def test_a_size_that_is_too_small_for_the_figure_is_refused(curve: PathResult):
    with pytest.raises(SettingsError, match="does not fit into 1x1 inches"):
        draw([curve], Path("a.png"), Look("talk", (1.0, 1.0)))


def test_a_look_is_read_as_it_is_written():
    assert look_of("talk", "7x3.5", 300) == Look("talk", (7.0, 3.5), 300)
    assert look_of() == Look()


def test_axes_of_equal_length_have_one_scale(surface: SurfaceResult):
    figure = figure_of([surface])
    figure.draw_without_rendering()
    flat = figure.axes[0]
    box = flat.get_window_extent()
    across, up = (ends[1] - ends[0] for ends in (flat.get_xlim(), flat.get_ylim()))
    assert across != up
    assert box.height / box.width == pytest.approx(up / across, rel=1e-6)
    flatter = replace(surface, betas=tuple(0.01 * beta for beta in surface.betas))
    assert any(re.search(r"β is stretched \d+ times", word) for word in words(figure_of([flatter])))
    assert figure_of([replace(surface, lengths=(1.0, 2.0))]).axes[0].get_box_aspect() == 1.0


def test_the_relief_has_every_mark_at_its_height_and_names_its_axes(surface: SurfaceResult):
    corner = Mark(name="corner", alpha=surface.alphas[1], beta=surface.betas[2], distance_from_plane=0.0)
    marked = replace(surface, marks=(*surface.marks, corner))
    relief: Any = next(axes for axes in figure_of([marked]).axes if axes.name == "3d")
    assert (relief.get_xlabel(), relief.get_ylabel()) == ("α", "β")
    assert "loss" in relief.get_zlabel()
    places = numpy.array(relief.lines[0].get_data_3d()).T
    assert places[:, :2].tolist() == [[mark.alpha, mark.beta] for mark in marked.marks]
    logarithmic = relief.get_zlabel().startswith("log")
    exact = surface.loss[2][1]
    assert places[-1, 2] == pytest.approx(numpy.log10(exact) if logarithmic else exact, rel=1e-9)
    assert {mark.name for mark in marked.marks} <= {text.get_text().strip() for text in relief.texts}


def rows(count: int) -> CompareResult:
    source = Invented()
    made = [source.instance(CompareRow, gap=0.1 * place, gap_standard_error=0.02, readings=()) for place in range(count)]
    return source.instance(CompareResult, rows=tuple(made))


def test_a_few_checkpoints_are_compared_by_name_on_one_scale():
    result = rows(3)
    figure = figure_of([result])
    assert len(figure.axes) == 4
    assert figure.legends == []
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [row.checkpoint.label for row in result.rows]
    for axes, name in zip(figure.axes, ("gap", "lambda_max", "phi", "distance"), strict=True):
        points = [line for line in axes.lines if line.get_marker() in "os^"]
        assert [line.get_xdata()[0] for line in points] == [getattr(row, name) for row in result.rows]
        assert [line.get_ydata()[0] for line in points] == [0, 1, 2]
    bars = [bar for group in figure.axes[0].collections for bar in group.get_segments()]
    for bar, row in zip(bars, result.rows, strict=True):
        assert bar[:, 0].tolist() == pytest.approx([row.gap - row.gap_standard_error, row.gap + row.gap_standard_error])
    assert "gap and measures ± standard error" in figure.get_suptitle()


def test_named_measures_have_panels_in_rows_of_four():
    result = rows(3)
    readings = tuple(Invented().instance(Reading, label=f"measure {number}", value=1.0 + number) for number in range(3))
    figure = figure_of([replace(result, rows=tuple(replace(row, readings=readings) for row in result.rows))])
    assert [axes.get_xlabel() for axes in figure.axes[4:]] == ["measure 0", "measure 1", "measure 2"]
    columns = {round(axes.get_subplotspec().colspan.start) for axes in figure.axes}
    assert columns == {0, 1, 2, 3}


def test_many_checkpoints_are_points_with_one_legend():
    figure = figure_of([rows(12)])
    assert len(figure.axes) == 3
    assert len(figure.legends) == 1
    assert len(figure.legends[0].get_texts()) == 12
    assert [bool(axes.get_ylabel()) for axes in figure.axes] == [True, False, False]
    assert "bars: gap" in figure.get_suptitle()


def test_both_fits_of_a_distance_differ_in_colour_and_dash(distance: DistanceResult):
    axes = figure_of([distance]).axes[0]
    data, log, power = axes.lines
    assert len({line.get_color() for line in axes.lines}) == 3
    assert log.get_linestyle() != power.get_linestyle()
    growth = distance.growth
    assert growth is not None
    assert list(data.get_ydata()) == list(growth.distances)
    for line, fit in zip((log, power), growth.fits, strict=True):
        values = [one - left for one, left in zip(growth.distances, fit.residuals, strict=True)]
        assert list(line.get_ydata()) == pytest.approx(values)
    several = [replace(distance, checkpoint=replace(distance.checkpoint, path=f"/{n}/a/b.pt", label=n)) for n in "abcd"]
    assert [axes.get_title() for axes in figure_of(several[:3]).axes[:3]] == ["a", "b", "c"]
    assert len(figure_of(several).axes) == 1


def test_a_curve_is_drawn_with_the_straight_path(curve: PathResult):
    upper = figure_of([curve]).axes[0]
    drawn = {str(line.get_label()).split(" (")[0]: list(line.get_ydata()) for line in upper.lines}
    assert len(curve.straight) == 2
    for own, straight in zip(curve.curves, curve.straight, strict=True):
        assert drawn[own.split] == list(own.loss)
        assert drawn[f"{own.split}, straight"] == list(straight.loss)
    assert curve.straight_barrier == curve.straight[0].barrier


def test_the_straight_path_is_the_linear_one(curve: PathResult):
    linear = sharpcli.interpolate(*ENDS, points=5, samples=200)
    assert linear.straight == ()
    for own, straight in zip(linear.curves, curve.straight, strict=True):
        assert straight.loss == pytest.approx(own.loss, rel=1e-5)
        assert straight.barrier == pytest.approx(own.barrier, rel=1e-4)


def test_measures_are_drawn_by_name_with_a_panel_for_each_unit():
    source = Invented()
    readings = [
        source.instance(Reading, measure=name, label=f"{name} rho=1", unit=unit, value=value, standard_error=error)
        for name, unit, value, error in (
            ("a", "nats", 3.0, 0.5),
            ("b", "%", 7.0, None),
            ("c", "nats", 1.0, 0.1),
            ("d", "%", None, None),
        )
    ]
    results = [source.instance(SharpnessResult, measurements=(), readings=tuple(readings)) for _ in range(2)]
    figure = figure_of(results)
    assert [axes.get_xlabel() for axes in figure.axes] == ["nats", "%"]
    assert [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes] == [
        ["a rho=1", "c rho=1"],
        ["b rho=1"],
    ]
    for line in [line for line in figure.axes[0].lines if line.get_marker() in "os"]:
        assert list(line.get_xdata()) == [3.0, 1.0]
        assert [round(place) for place in line.get_ydata()] == [0, 1]
    bars = [bar[:, 0].tolist() for group in figure.axes[0].collections for bar in group.get_segments()]
    assert bars == [[2.5, 3.5], [0.9, 1.1]] * 2
    assert len(figure.legends[0].get_texts()) == 2


def test_three_pairs_fit_on_a_page(curve: PathResult):
    subjects = [replace(curve.start, path=f"{name}.pt", label=name) for name in "abc"]
    results = [replace(curve, start=a, end=b) for a, b in zip(subjects, (*subjects[1:], subjects[0]), strict=True)]
    assert figure_of(results).get_figwidth() <= 12
    assert figure_of(results, Look(style="paper")).get_figwidth() <= 7.5


def test_a_density_without_probes_has_no_band():
    """Of a small matrix every eigenvalue is computed, so nothing is random."""
    exact = sharpcli.hessian(SAMPLES / "sgd", topk=1, samples=50, density=True, params=("5.bias",))
    assert exact.density is not None
    assert exact.density.probes == 0
    legends = [axes.get_legend() for axes in draw_hessian([exact]).axes]
    assert not [text.get_text() for legend in legends if legend for text in legend.get_texts() if "95 %" in text.get_text()]
