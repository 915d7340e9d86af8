"""`compare --measure`: columns of further measures, and rank correlations with the gap from five checkpoints on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Answer

Run = Callable[..., Answer]


def test_a_column_has_the_values_of_sharpness(sharpcli: Run, runs: Path, tmp_path: Path) -> None:
    files = [runs / mode / name for mode in ("sgd", "largebatch", "fullbatch") for name in ("final.pt", "step-2.pt")]
    words = ["--measure", "gradient-norm", "--measure", "average-case:sigma=0.1"]
    answer = sharpcli("compare", *files, *words, "--metrics", "hessian", "--plot", tmp_path / "c.png", "--json")
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    alone = json.loads(sharpcli("sharpness", files[1], *words, "--json").stdout)["result"]["readings"]
    for one, other in zip(result["rows"][1]["readings"], alone, strict=True):
        assert (one["label"], one["value"]) == (other["label"], pytest.approx(other["value"], rel=1e-6))
    told = {one["measure"] for one in result["correlations"]}
    assert told == {"λmax", "gradient-norm", "average-case sigma=0.1"}
    assert {one["checkpoints"] for one in result["correlations"]} == {6}
    shown = sharpcli("compare", *files, *words, "--metrics", "hessian").stdout
    assert "Kendall's τ" in shown
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_with_fewer_than_five_there_is_no_correlation(sharpcli: Run, runs: Path) -> None:
    answer = sharpcli("compare", runs / "sgd", runs / "fullbatch", "--metrics", "distance", "--json")
    assert json.loads(answer.stdout)["result"]["correlations"] == []


def test_an_unknown_measure_is_refused_before_the_work(sharpcli: Run, runs: Path) -> None:
    answer = sharpcli("compare", runs / "sgd", "--measure", "sharp")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "no measure called 'sharp'" in answer.stderr
