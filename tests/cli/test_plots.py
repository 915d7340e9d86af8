"""--plot as a user types it: its look, and what it says about the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

Run = Callable[..., Any]
WORDS = ("--topk", 2, "--samples", 30)


def test_a_plot_has_the_size_that_is_asked_for_and_says_what_it_replaces(sharpcli: Run, final: Path, tmp_path: Path) -> None:
    place = tmp_path / "new" / "one.png"
    look = ("--style", "paper", "--size", "4x3", "--dpi", 100)
    first = sharpcli("hessian", final, *WORDS, "--plot", place, *look)
    assert first.exit_code == 0, first.stderr
    assert imread(place).shape[:2] == (300, 400)
    assert f"in the new folder {place.parent}" in first.stderr.replace("\n", " ")
    second = sharpcli("hessian", final, *WORDS, "--plot", place)
    assert "in place of an older picture" in second.stderr.replace("\n", " ")
    third = sharpcli("hessian", final, *WORDS, "--plot", place.with_name("other.png"))
    assert third.stderr.strip().endswith(f"Plot written to {place.with_name('other.png')}")
    assert sharpcli("hessian", final, *WORDS, "--plot", place, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--style", "talk"), "--style is for --plot"),
        (("--dpi", 300), "--dpi is for --plot"),
        (("--plot", "{new}", "--style", "papr"), "Did you mean 'paper'"),
        (("--plot", "{new}", "--size", "big"), "Write it like 7x3.5"),
    ],
)
def test_a_look_that_cannot_be_is_refused_before_any_work(
    words: tuple[str, ...], told: str, sharpcli: Run, final: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a.png"
    answer = sharpcli("hessian", final, *(str(word).format(new=place) for word in words))
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert told in answer.stderr
    assert not place.exists()
