"""How much of a command is done and how long the rest takes, by a clock that the test turns; and lines without a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sharpcli import progress
from sharpcli.render import progress_bar as bar
from sharpcli.render.progress_bar import Lines
from sharpcli.render.progress_tree import Overview, Piece


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def overview(clock: Clock) -> Overview:
    return Overview(lambda: None, clock)


def begin(
    overview: Overview, label: str, total: float | None = None, units: str = "", done: float = 0, **parts: float
) -> Piece:
    return overview.start(label, total, units=units, done=done, parts=parts)


def work(piece: Piece, clock: Clock, count: int, seconds: float = 1.0) -> None:
    for _ in range(count):
        clock.now += seconds
        piece.advance(1)


def test_parts_are_shares_of_the_whole(overview: Overview, clock: Clock) -> None:
    whole = begin(overview, "whole", open=1, search=10, density=30)
    begun = begin(overview, "open")
    assert overview.fraction() == 0
    assert overview.seconds_left() is None
    overview.finish(begun)
    search = begin(overview, "search", 10, "products")
    work(search, clock, 5)
    assert overview.fraction() == 5 / 40
    assert overview.seconds_left() == pytest.approx(35)
    clock.now += 2
    assert overview.seconds_left() == pytest.approx(33)
    work(search, clock, 5)
    overview.finish(search)
    density = begin(overview, "density", 30, "products")
    work(density, clock, 15)
    assert overview.fraction() == 25 / 40
    overview.finish(density)
    overview.finish(whole)


def test_what_is_likely_to_be_left_counts_not_what_is_allowed(overview: Overview, clock: Clock) -> None:
    search = begin(overview, "search", 1000, "products")
    work(search, clock, 10)
    assert overview.seconds_left() == pytest.approx(990)
    search.expect(10)
    assert overview.seconds_left() == pytest.approx(10)
    assert overview.fraction() == 0.5
    search.expect(30)  # It is harder than it looked: more time, but the bar does not go back.
    assert overview.seconds_left() == pytest.approx(30)
    assert overview.fraction() == 0.5


def test_pieces_in_a_row_take_what_the_first_took(overview: Overview, clock: Clock) -> None:
    row = begin(overview, "checkpoint", 4)
    for number in range(2):
        piece = begin(overview, "comparison", search=10)
        search = begin(overview, "search", 10, "products")
        assert overview.fraction() == pytest.approx(number / 4 if not number else 0.25)
        work(search, clock, 10)
        overview.finish(search)
        assert overview.fraction() == pytest.approx((number + 1) / 4)
        overview.finish(piece)
        assert overview.fraction() == pytest.approx((number + 1) / 4)  # Also before it is counted.
        row.advance(1)
    assert overview.fraction() == 0.5
    assert overview.seconds_left() == pytest.approx(20)


def test_a_part_may_count_in_a_unit_of_its_own(overview: Overview, clock: Clock) -> None:
    begin(overview, "run", 2, sgd=6400.0, fullbatch=64000.0)
    run = begin(overview, "sgd", 100, "updates")
    work(run, clock, 50)
    assert overview.fraction() == pytest.approx(3200 / 70400)
    assert overview.seconds_left() == pytest.approx(1050)


def test_what_was_done_before_is_done_but_took_no_time_now(overview: Overview, clock: Clock) -> None:
    run = begin(overview, "train", 100, "updates", done=60)
    assert overview.fraction() == 0.6
    work(run, clock, 20)
    assert overview.fraction() == 0.8
    assert overview.seconds_left() == pytest.approx(20)


def test_parts_that_never_come_are_not_waited_for(overview: Overview, clock: Clock) -> None:
    begin(overview, "whole", search=100, trace=60, density=10)
    density = begin(overview, "density", 10, "products")
    work(density, clock, 5)
    assert overview.fraction() == 0.5


def test_a_search_within_counted_work_is_a_part_of_it(overview: Overview, clock: Clock) -> None:
    """As that of --track-sharpness between two updates."""
    run = begin(overview, "train", 10, "updates")
    work(run, clock, 5)
    search = begin(overview, "search", 30, "products")
    search.advance(20)
    overview.finish(search)
    assert overview.fraction() == 0.5
    assert overview.innermost() is run


def test_the_speed_is_that_of_the_last_half_minute(overview: Overview, clock: Clock) -> None:
    run = begin(overview, "train", 1000, "updates")
    work(run, clock, 100, seconds=10)
    work(run, clock, 100, seconds=1)
    assert overview.seconds_left() == pytest.approx(800, rel=0.01)


FALLS = [
    ([], None),
    ([(1, 5.0), (2, 4.0)], None),
    ([(1, 5.0), (2, 5.0), (3, 5.0)], None),
    ([(1, 1.0), (2, 2.0), (3, 3.0)], None),
    ([(1, 5.0), (2, 4.0), (3, 3.0)], 3.0),
    ([(10, 6.0), (20, 4.0), (30, 2.0)], 10.0),
    ([(n, 100.0) for n in range(10)] + [(10 + n, 50.0 - n) for n in range(10)], 41.0),
    ([(1, 2.0), (2, 1.0), (3, 0.0)], 0.0),
]


@pytest.mark.parametrize(("history", "left"), FALLS)
def test_a_fall_is_drawn_out_to_its_end(history: list[tuple[float, float]], left: float | None) -> None:
    found = progress.left_of_fall(history)
    assert found == (None if left is None else pytest.approx(left))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lines, list[str]]]:
    monkeypatch.setattr(bar, "_HALF_A_MINUTE", 0.02)
    written: list[str] = []
    shown = Lines(written.append)
    with shown:
        yield shown, written


def wait(written: list[str], count: int) -> None:
    end = time.monotonic() + 60
    while len(written) < count and time.monotonic() < end:
        time.sleep(0.001)


def test_a_line_comes_also_where_nothing_is_reported(lines: tuple[Lines, list[str]]) -> None:
    """As while data are loaded, or in one long product."""
    shown, written = lines
    wait(written, 2)
    assert written[0].startswith("preparing; 0 % done; ")
    search = shown.overview.start("search", 40, units="products", done=0, parts={})
    search.expect(30)
    search.advance(10, residual=0.012345)
    wait(written, len(written) + 2)
    assert written[-1].startswith("search, 10 of about 30 products, residual 0.01235; ")


def test_no_line_comes_after_the_end(lines: tuple[Lines, list[str]]) -> None:
    shown, written = lines
    wait(written, 1)
    shown.__exit__(None, None, None)
    count = len(written)
    time.sleep(0.1)
    assert len(written) == count


def test_a_reader_that_has_left_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "_HALF_A_MINUTE", 0.01)
    tried: list[Any] = []

    def write(line: str) -> None:
        tried.append(line)
        raise BrokenPipeError

    with Lines(write):
        wait(tried, 3)
    assert len(tried) >= 3


def test_a_bar_that_is_drawn_in_the_midst_of_a_change_waits_for_its_end(monkeypatch: pytest.MonkeyPatch):
    """Work that is counted in two places for a moment would stay in the bar, which never goes back."""
    overview = Overview(lambda: None)
    overview.start("checkpoint", 2, units="", done=0, parts={})
    piece = overview.start("search", 3, units="products", done=0, parts={})
    piece.advance(3)
    seen = list[float]()
    reader = threading.Thread(target=lambda: seen.append(overview.fraction()))

    def earlier() -> float:  # Called when the work has been added above and is not yet taken away below.
        if reader.ident is None:
            reader.start()
            reader.join(timeout=0.3)
        return 0.0

    monkeypatch.setattr(piece, "earlier", earlier)
    overview.finish(piece)
    reader.join()
    assert seen[0] <= 0.5
