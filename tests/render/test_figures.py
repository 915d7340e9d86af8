import itertools
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from matplotlib import image
from matplotlib.text import Text

import sharpcli
from sharpcli.errors import SettingsError
from sharpcli.render import figures
from sharpcli.render.figures import check_format, draw
from sharpcli.render.figures.interpolate import draw_paths
from sharpcli.render.figures.look import own_style
from sharpcli.results import PathResult

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"


@pytest.fixture(scope="module")
def path_result() -> PathResult:
    return sharpcli.interpolate(SAMPLES / "sgd", SAMPLES / "fullbatch", points=5, samples=500)


def test_a_path_shows_both_losses_and_accuracies_with_axes_named(path_result: PathResult):
    upper, lower = draw_paths([path_result]).axes
    assert len(upper.get_lines()) >= 2
    assert len(lower.get_lines()) >= 2
    assert "loss" in upper.get_ylabel()
    assert "accuracy" in lower.get_ylabel()
    assert "α" in lower.get_xlabel()
    words = [text.get_text() for text in upper.get_legend().get_texts()]
    assert any("train" in word for word in words)
    assert any("test" in word for word in words)


def test_lines_differ_without_colour(path_result: PathResult):
    """Figures are read in grey too: marker and dash must tell the lines apart."""
    lines = [line for line in draw_paths([path_result]).axes[0].get_lines() if line.get_label().startswith(("train", "test"))]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines) == 2


def test_what_is_drawn_is_what_was_measured(path_result: PathResult):
    upper = draw_paths([path_result]).axes[0]
    train = next(line for line in upper.get_lines() if line.get_label().startswith("train"))
    assert list(train.get_xdata()) == list(path_result.alphas)
    assert list(train.get_ydata()) == list(path_result.curves[0].loss)


@pytest.mark.parametrize("count", [3, 4])
def test_several_checkpoints_have_a_matrix_of_barriers_for_each_split(path_result: PathResult, count: int):
    """Three beside their paths, more by themselves."""
    subjects = [replace(path_result.start, path=f"{name}.pt", label=name) for name in "abcd"[:count]]
    results = [
        replace(path_result, start=start, end=end, curves=tuple(replace(curve, barrier=number) for curve in path_result.curves))
        for number, (start, end) in enumerate(itertools.combinations(subjects, 2), start=1)
    ]
    panels = draw_paths(results).axes
    assert len(panels) == (2 * 3 + 2 if count == 3 else 2)
    for axes, split in zip(panels[-2:], ("train", "test"), strict=True):
        assert split in axes.get_title()
        shown = numpy.array([float(text.get_text()) for text in axes.texts]).reshape(count, count)
        assert (shown == shown.T).all()
        assert (shown.diagonal() == 0).all()
        assert shown[numpy.triu_indices(count, 1)].tolist() == list(range(1, len(results) + 1))
        assert [label.get_text() for label in axes.get_yticklabels()] == list("abcd"[:count])


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_each_format_is_what_it_says(path_result: PathResult, ending: str, start: bytes, tmp_path: Path):
    drawn = draw([path_result], Path(f"out.{ending}"))
    assert drawn.startswith(start)
    if ending == "png":
        (tmp_path / "out.png").write_bytes(drawn)
        assert image.imread(tmp_path / "out.png").std() > 0.05


def test_equal_results_give_equal_files(path_result: PathResult):
    assert draw([path_result], Path("a.png")) == draw([path_result], Path("b.png"))


def test_other_endings_are_refused():
    with pytest.raises(SettingsError, match="does not end in"):
        check_format(Path("out.gif"))


@pytest.mark.parametrize("command", ["interpolate", "hessian", "surface", "distance", "compare"])
def test_no_axis_shows_a_formula_as_it_is_written(command: str, tmp_path: Path):
    """Names may hold dollar signs, so formulas are off, and numbers of axes must not be formulas then."""
    one, other = SAMPLES / "sgd", SAMPLES / "fullbatch"
    results = {
        "interpolate": lambda: sharpcli.interpolate(one, other, points=3, samples=64, curvature=True),
        "hessian": lambda: sharpcli.hessian(one, topk=2, samples=64, density=True),
        "surface": lambda: sharpcli.surface([one], points=5, samples=64),
        "distance": lambda: sharpcli.distance(one),
        "compare": lambda: sharpcli.compare([one, other], samples=64),
    }
    plot = tmp_path / "p.pdf"
    with own_style():
        figure = figures._DRAWERS[type(result := results[command]())]([result])
        figure.savefig(plot)
        shown = [text.get_text() for text in figure.findobj(Text)]
    assert any(any(letter.isdigit() for letter in text) for text in shown)
    assert [text for text in shown if "$" in text] == []
