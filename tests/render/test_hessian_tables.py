"""What a row says of its index, and bounds that still hold as they are printed."""

import pytest

from sharpcli.render.hessian_tables import _bound, _index
from sharpcli.results import Eigenvalue


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
