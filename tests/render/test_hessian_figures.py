"""What is drawn of `hessian` is what was found: the artists hold the numbers of the results."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.integrate import trapezoid

import sharpcli
from sharpcli.analyses.hessian import hessian_all
from sharpcli.errors import SettingsError
from sharpcli.render.figures import draw
from sharpcli.render.figures.hessian import draw_hessian
from sharpcli.render.figures.style import plain_number
from sharpcli.results import HessianResult
from tests.lanes import thinned

pytestmark = pytest.mark.xdist_group("hessian_figures")  # Its answers are computed once.

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"


@pytest.fixture(scope="module")
def whole() -> HessianResult:
    """Return an answer with everything: both ends, density, counts, layers."""
    return sharpcli.hessian(
        SAMPLES / "sgd",
        topk=4,
        bottomk=2,
        samples=200,
        density=True,
        density_steps=15,
        probes=3,
        above=(1.0, -0.05),
        per_layer=True,
    )


@pytest.fixture(scope="module")
def limited() -> HessianResult:
    return sharpcli.hessian(SAMPLES / "sgd", topk=4, samples=200, max_hvp=8)


@pytest.fixture(scope="module")
def splits() -> list[HessianResult]:
    return hessian_all([SAMPLES / "sgd"], topk=3, samples=200, split="both")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[HessianResult]:
    """Return five steps of each of two runs of plain descent at different rates."""
    folder = tmp_path_factory.mktemp("runs")
    random = numpy.random.default_rng(0)
    arrays = {"x_train": random.normal(size=(60, 1, 6, 6)), "x_test": random.normal(size=(20, 1, 6, 6))}
    arrays |= {"y_train": random.integers(0, 3, 60), "y_test": random.integers(0, 3, 20)}
    numpy.savez(folder / "data.npz", **arrays)
    plain = {"momentum": 0.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "steps": 30, "save_every": 6}
    for name, rate in (("slow", 0.5), ("fast", 1.0)):
        model = {"model": "mlp", "model_arg": ("hidden=6",), "data": f"npz:{folder / 'data.npz'}"}
        sharpcli.train(mode="fullbatch", lr=rate, out=str(folder / name), **model, **plain)
    places = [folder / name / "fullbatch" for name in ("slow", "fast")]
    return hessian_all(places, along_run=True, topk=2, density=True, density_steps=10, probes=2)


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def titles(results: Sequence[HessianResult]) -> list[str]:
    named = [axes.get_title() for axes in draw_hessian(results).axes if axes.get_title()]  # Scales of colours have no title.
    return [title.split(" (")[0].split(", ")[0] for title in named]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def points(axes: Axes, *, filled: bool) -> list[tuple[float, float]]:
    """List the places of all markers for eigenvalues that are filled, or hollow."""
    lines = [
        line for line in axes.get_lines() if line.get_marker() in "os^Dv" and (line.get_markerfacecolor() != "white") is filled
    ]
    return [(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def has_line(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> bool:
    return any(list(line.get_xdata()) == list(xs) and list(line.get_ydata()) == list(ys) for line in axes.get_lines())


def test_what_is_held_decides_what_is_drawn(whole: HessianResult, limited: HessianResult, runs: list[HessianResult]):
    assert titles([whole]) == [
        "Eigenvalues", "Convergence", "Spectral density", "Count above λ", "Layers", "Share of the first eigenvector",
        "Spectral density of each block", "Distance of densities",
    ]  # fmt: skip
    assert titles([whole, limited]) == ["Eigenvalues", "Convergence", "Spectral density", "Count above λ"]
    assert titles([replace(whole, eigenvalues=(), layers=(), residual_history=())]) == ["Spectral density", "Count above λ"]
    assert titles([replace(limited, residual_history=())]) == ["Eigenvalues"]
    assert titles(runs)[0] == "Eigenvalues along the run"
    assert titles(runs[:2])[0] == "Eigenvalues"


def test_nothing_to_draw_is_said(whole: HessianResult):
    with pytest.raises(SettingsError, match="nothing to draw"):
        draw([replace(whole, eigenvalues=(), density=None, layers=())], Path("a.png"))


def test_eigenvalues_stand_at_their_index_with_their_interval(whole: HessianResult):
    axes = panel(draw_hessian([whole]), "Eigenvalues")
    assert points(axes, filled=True) == [
        (place, one.value) for place, one in zip((1, 2, 3, 4, 6, 7), whole.eigenvalues, strict=True)
    ]
    bars = [bar for group in axes.collections for bar in group.get_segments()]
    ends = [end for one in whole.eigenvalues for end in one.interval or ()]
    assert [float(end) for bar in bars for end in bar[:, 1]] == pytest.approx(ends, rel=1e-12)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert dict(zip(map(float, axes.get_xticks()), labels, strict=True)) == {
        1: "1", 2: "2", 3: "3", 4: "4", 6: "\N{MINUS SIGN}2", 7: "\N{MINUS SIGN}1",
    }  # fmt: skip
    assert axes.get_yscale() == "symlog"


def test_verdicts_show(whole: HessianResult, limited: HessianResult):
    certified, other = (panel(draw_hessian([result]), "Eigenvalues") for result in (whole, limited))
    assert points(certified, filled=False) == []
    assert "certified" in words(certified)
    assert [value for _, value in points(other, filled=False)] == [one.value for one in limited.eigenvalues]
    assert points(other, filled=True) == []
    assert "budget-limited" in words(other)
    assert "certified" not in words(other)


def test_the_bar_of_a_refused_eigenvalue_is_its_residual(limited: HessianResult):
    refused = [replace(one, verdict="refused", interval=None) for one in limited.eigenvalues]
    axes = panel(draw_hessian([replace(limited, eigenvalues=tuple(refused), lambda_max=None)]), "Eigenvalues")
    ends = [one.value + sign * one.residual for one in refused for sign in (-1, 1)]
    assert [float(end) for group in axes.collections for bar in group.get_segments() for end in bar[:, 1]] == pytest.approx(
        ends
    )
    assert any(word.startswith("bar: residual") for word in words(axes))
    assert "refused" in words(axes)


def test_the_longest_bar_is_not_understated(whole: HessianResult):
    word = next(word for word in words(panel(draw_hessian([whole]), "Eigenvalues")) if word.startswith("bar: interval"))
    told = float(word.split("± ")[1].replace("\N{MINUS SIGN}", "-"))
    longest = max(one.interval[1] - one.value for one in whole.eigenvalues if one.interval)
    assert longest <= told * (1 + 1e-6) <= 1.2 * longest


def test_the_search_is_drawn_with_its_tolerance(whole: HessianResult):
    axes = panel(draw_hessian([whole]), "Convergence")
    assert has_line(axes, *zip(*whole.residual_history, strict=True))
    assert any(set(line.get_ydata()) == {whole.settings["tol"]} for line in axes.get_lines())
    low, high = axes.get_ylim()
    assert low < whole.settings["tol"] < high


def test_the_density_is_drawn_on_its_own_scale(whole: HessianResult):
    density = whole.density
    axes = panel(draw_hessian([whole]), "Spectral density")
    assert density is not None
    assert has_line(axes, density.grid, density.density)
    assert axes.get_xscale() == "asinh"
    heights = {value for value, _ in points(axes, filled=True)}
    assert heights == {one.value for one in whole.eigenvalues if one.verdict == "certified"}
    lone = 1 / (whole.conditions.num_parameters * density.width * math.sqrt(2 * math.pi))
    assert axes.get_ylim()[0] < lone < axes.get_ylim()[1]
    assert axes.get_ylim()[1] > max(density.density_upper)


def test_densities_on_one_axis_keep_their_area(whole: HessianResult):
    """Another result has another linear part; drawn over the common scale its area is still one."""
    other = sharpcli.hessian(SAMPLES / "fullbatch", topk=0, samples=100, density=True, density_steps=10)
    assert whole.density is not None
    assert other.density is not None
    axes = panel(draw_hessian([whole, other]), "Spectral density")
    common = max(whole.density.linear_width, other.density.linear_width)
    assert min(whole.density.linear_width, other.density.linear_width) < 0.5 * common
    for result in (whole, other):
        line = next(line for line in axes.get_lines() if list(line.get_xdata()) == list(result.density.grid))
        assert trapezoid(line.get_ydata(), numpy.arcsinh(numpy.array(line.get_xdata()) / common)) == pytest.approx(1, abs=0.03)


def test_the_count_is_that_of_the_density_and_exact_at_certified_eigenvalues(whole: HessianResult):
    density, size = whole.density, whole.conditions.num_parameters
    axes = panel(draw_hessian([whole]), "Count")
    assert density is not None
    assert has_line(axes, density.grid, [size * max(1 - share, 0) for share in density.cdf])
    assert points(axes, filled=True) == [(one.value, one.index) for one in whole.eigenvalues if one.index > 0]
    marks = [line for line in axes.get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [(1.0, density.counts[0].count.value)]


def test_a_count_beside_one_that_is_not_certified_keeps_its_rank(whole: HessianResult):
    first, second, *rest = whole.eigenvalues
    doubtful = replace(whole, eigenvalues=(first, replace(second, verdict="noise-limited"), *rest))
    axes = panel(draw_hessian([doubtful]), "Count")
    assert [rank for _, rank in points(axes, filled=True)] == [1, 3, 4]


def test_layers_are_bars(whole: HessianResult):
    figure = draw_hessian([whole])
    values, shares = panel(figure, "Layers"), panel(figure, "Share")
    assert [bar.get_width() for bar in values.patches] == [layer.lambda_max for layer in whole.layers]
    assert [bar.get_width() for bar in shares.patches] == [100 * layer.share for layer in whole.layers]
    assert [text.get_text() for text in values.get_yticklabels()] == ["1 (Linear)", "3 (Linear)", "5 (Linear)"]
    doubtful = (replace(whole.layers[0], verdict="budget-limited"), *whole.layers[1:])
    hatched = panel(draw_hessian([replace(whole, layers=doubtful, lambda_max=None)]), "Layers").patches
    assert [bool(bar.get_hatch()) for bar in hatched[: len(doubtful)]] == [True] + [False] * (len(doubtful) - 1)


def test_splits_are_told_apart(splits: list[HessianResult]):
    figure = draw_hessian(splits)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [name.split(" loss")[0] for name in names] == ["sgd (train", "sgd (test"]
    handles = [line for line in figure.legends[0].get_lines() if isinstance(line, Line2D)]
    assert len({(line.get_marker(), line.get_linestyle()) for line in handles}) == 2
    found = points(panel(figure, "Eigenvalues"), filled=True)
    assert [value for _, value in found] == [one.value for result in splits for one in result.eigenvalues]
    assert len({place for place, _ in found}) == len(found)


def test_a_run_is_drawn_over_its_steps(runs: list[HessianResult]):
    figure = draw_hessian(runs)
    axes = panel(figure, "Eigenvalues along")
    for name in ("slow", "fast"):
        own = [result for result in runs if f"/{name}/" in result.checkpoint.path]
        steps = [result.checkpoint.step for result in own]
        assert len(set(steps)) >= 3
        assert has_line(axes, steps, [result.eigenvalues[0].value for result in own])
        assert has_line(axes, steps, [result.eigenvalues[1].value for result in own])
        limit = own[0].stability_threshold
        shown = any(set(line.get_ydata()) == {limit} and list(line.get_xdata()) == steps for line in axes.get_lines())
        told = f"2/lr = {plain_number(limit)}"
        top = max(result.eigenvalues[0].value for result in runs)
        assert shown is any(word.startswith(told) for word in words(axes)) is (limit < 3 * top)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["slow/fullbatch (train)", "fast/fullbatch (train)"]


def test_two_over_the_learning_rate_is_drawn_where_it_is_in_sight(splits: list[HessianResult]):
    top = splits[0].eigenvalues[0].value
    for limit, seen in ((2 * top, True), (4 * top, False), (None, False)):
        axes = panel(draw_hessian([replace(splits[0], stability_threshold=limit)]), "Eigenvalues")
        assert any(set(line.get_ydata()) == {limit} for line in axes.get_lines()) is seen
        assert any(word.startswith("2/lr") for word in words(axes)) is seen


def test_a_density_of_many_steps_shows_three(runs: list[HessianResult]):
    axes = panel(draw_hessian(runs[:5]), "Spectral density")
    assert sum(word.startswith("step ") for word in words(axes)) == 3


def test_the_matrix_is_named(whole: HessianResult):
    for operator, name in (("ggn", "Gauss-Newton matrix"), ("empirical-fisher", "empirical Fisher matrix")):
        figure = draw_hessian([replace(whole, operator=operator)])
        assert name in panel(figure, "Eigenvalues").get_ylabel()
        assert name.lower() in figure.get_suptitle().lower()


@pytest.mark.parametrize("ending", thinned(["svg", "png", "pdf"]))
def test_every_kind_is_written_alike_twice(
    whole: HessianResult, limited: HessianResult, runs: list[HessianResult], splits: list[HessianResult], ending: str
):
    kinds = ([whole], runs, [limited], splits, [whole, limited])
    for results in kinds if ending == "png" else kinds[:2]:
        first = draw(results, Path(f"a.{ending}"))
        assert len(first) > 5000
        assert first == draw(results, Path(f"b.{ending}"))


def test_numbers_that_are_none_zero_or_not_finite_do_not_stop_a_figure(whole: HessianResult):
    """Warnings are errors here, so this also holds that none is given."""
    odd = (
        replace(whole.eigenvalues[0], value=math.nan, interval=None, verdict="refused"),
        replace(whole.eigenvalues[1], residual=math.nan, interval=None, verdict="refused"),
        replace(whole.eigenvalues[2], value=0.0, interval=(0.0, 0.0), residual=0.0),
    )
    history = ((5, math.inf), (6, 0.0), (7, 0.5))
    result = replace(whole, eigenvalues=odd, residual_history=history, lambda_max=None, stability_threshold=None)
    assert [value for _, value in points(panel(draw_hessian([result]), "Eigenvalues"), filled=False)] == [odd[1].value]
    assert has_line(panel(draw_hessian([result]), "Convergence"), [7], [0.5])
    zero = replace(whole, eigenvalues=(odd[2],), residual_history=(), density=None, layers=())
    for results in ([result], [zero], [replace(result, eigenvalues=odd[:1])]):
        assert draw(results, Path("a.png")).startswith(b"\x89PNG")


def test_many_lines_stay_apart_in_marker_and_dash(limited: HessianResult):
    subjects = [replace(limited.checkpoint, label=f"c{place}", path=f"/x/{place}/final.pt") for place in range(12)]
    figure = draw_hessian([replace(limited, checkpoint=subject) for subject in subjects])
    looks = {(line.get_marker(), tuple(line._dash_pattern[1] or ())) for line in figure.legends[0].get_lines()}
    assert len(looks) == 12


@pytest.mark.parametrize(("largest", "smallest"), [(100, 20), (60, 10), (20, 5), (10, 2), (12, 2), (1, 12), (1000, 3), (1, 40)])
def test_many_indices_do_not_crowd_the_axis(whole: HessianResult, largest: int, smallest: int):
    top = [replace(whole.eigenvalues[0], index=index, value=100 / index) for index in range(1, largest + 1)]
    bottom = [replace(whole.eigenvalues[-1], index=index, value=1 / index) for index in range(-smallest, 0)]
    figure = draw_hessian([replace(whole, eigenvalues=(*top, *bottom), density=None, layers=())])
    figure.canvas.draw()
    axes = panel(figure, "Eigenvalues")
    boxes = sorted((text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()), key=lambda box: box.x0)
    assert 4 <= len(boxes) <= 13
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01, "0.01"), (1e-3, "0.001"), (1e-5, "1e-5"), (-0.1, "-0.1"), (1e6, "1e6"), (2.5e-7, "2.5e-7"), (100, "100")],
)
def test_numbers_are_written_as_one_reads_them(value: float, text: str):
    assert plain_number(value) == text.replace("-", "\N{MINUS SIGN}")


def test_the_threshold_of_a_run_with_momentum_is_drawn_instead_of_two_over_the_rate(splits: list[HessianResult]):
    top = splits[0].eigenvalues[0].value
    moving = replace(splits[0], stability_threshold=top, momentum_threshold=1.9 * top)
    axes = panel(draw_hessian([moving]), "Eigenvalues")
    assert any(set(line.get_ydata()) == {1.9 * top} for line in axes.get_lines())
    assert any(word.startswith("3.8/lr") for word in words(axes))
    assert not any(word.startswith("2/lr") for word in words(axes))
