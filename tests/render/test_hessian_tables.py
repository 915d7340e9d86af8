"""What an answer is said to be about, what a row says of its index, and bounds that still hold as they are printed."""

import io

import pytest

from sharpcli.render.console import console
from sharpcli.render.tables import show
from sharpcli.render.tables.hessian import _bound, _index
from sharpcli.results import Eigenvalue, HessianResult
from tests.contracts.invented import Invented


def row(index: int, span: tuple[int, int | None] | None, *, confirmed: bool = False) -> Eigenvalue:
    return Eigenvalue(
        index=index,
        value=1.0,
        residual=0.1,
        interval=(0.9, 1.1),
        verdict="certified",
        verified=True,
        index_interval=None,
        index_confirmed=confirmed,
        index_range=span,
    )


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (row(3, (3, 3), confirmed=True), "3"),
        (row(3, (3, 5)), "3 to 5"),
        (row(-2, (-1, -4)), "-1 to -4"),
        (row(3, (2, None)), "3?"),
        (row(1, None), "1?"),
    ],
)
def test_an_index_is_said_as_far_as_it_is_known(one: Eigenvalue, text: str):
    assert _index(one) == text


@pytest.mark.parametrize("value", [33.005612, 33.005618, -0.2358749, 9.9999996, 1e-9 / 3, -123456.78, 1e30 / 7, 0.0])
@pytest.mark.parametrize("digits", [5, 7])
def test_a_bound_is_rounded_to_the_side_on_which_it_holds(value: float, digits: int):
    above, below = float(_bound(value, digits, above=True)), float(_bound(value, digits, above=False))
    assert below <= value <= above
    assert above - below <= 2.1 * 10.0 ** (1 - digits) * abs(value)


def text_of(**given: object) -> str:
    stream = io.StringIO()
    show([Invented().instance(HessianResult, **given)], console(stream))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("operator", "name", "letter"),
    [
        ("hessian", "loss Hessian", "H"),
        ("ggn", "Gauss-Newton matrix", "G"),
        ("fisher", "Fisher matrix", "F"),
        ("empirical-fisher", "empirical Fisher matrix", "F"),
        ("preconditioned", "preconditioned Hessian", "A"),
    ],
)
def test_every_matrix_is_named_and_has_its_letter(operator: str, name: str, letter: str):
    text = text_of(operator=operator)
    assert text.startswith(f"Eigenvalues of the {name} of ")
    assert f"all eigenvalues of the {name} are between " in text
    assert ("are between 0 and " in text) == ("essian" not in name)  # A sum of squares has no negative eigenvalue.
    assert f"vᵀ{letter}v" in text
    assert f"‖{letter}‖_F" in text
    assert text_of(operator=operator, eigenvalues=()).startswith(f"Curvature: the {name} of ")


@pytest.mark.parametrize(
    ("which", "title"), [("LA", "Eigenvalues"), ("SA", "Smallest eigenvalues"), ("LM", "Eigenvalues of largest magnitude")]
)
def test_the_title_says_which_eigenvalues_were_sought(which: str, title: str):
    assert text_of(settings={"which": which}).startswith(f"{title} of the loss Hessian of ")


def test_a_block_of_parameters_is_in_the_title():
    settings = {"params": ("conv*.weight", "fc")}
    text = text_of(settings=settings)
    assert text.startswith("Eigenvalues of the block 'conv*.weight', 'fc' of the loss Hessian of ")
    assert "all eigenvalues of this block of the loss Hessian are" in text
    assert "this block" not in text_of()


def test_what_was_not_selected_is_not_called_without_curvature():
    reasons = {"a.bias": "not selected", "b.bias": "not selected", "c": "linear", "d": "tied to e", "f": "frozen"}
    lines = text_of(dead_parameters=reasons).splitlines()
    assert {"not selected: 2 (a.bias, b.bias)", "tied: 1 (d to e)", "frozen: 1 (f)"} <= set(lines)
    assert [line for line in lines if "no curvature" in line] == ["no curvature (linear): c"]
