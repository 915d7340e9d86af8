"""Lines of a run: kept in memory, written whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy
import pytest

from sharpcli.training.records import Records


def test_each_kind_is_a_file_of_its_lines_in_order(tmp_path: Path):
    records = Records(tmp_path)
    for step in (1, 2):
        records.add("metrics", {"step": step, "train_loss": 0.5 / step})
    records.add("distances", {"step": 1, "distance": numpy.float64(0.25)})
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # Nothing is written twice.
        records.write()
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "distances.jsonl"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "train_loss": 0.5}, {"step": 2, "train_loss": 0.25}]


def test_only_the_last_line_of_a_kind_is_asked_about(tmp_path: Path):
    records = Records(tmp_path)
    assert not records.has("metrics", 0)
    for step in (0, 5):
        records.add("metrics", {"step": step})
    assert records.has("metrics", 5)
    assert not records.has("metrics", 0)
    assert not records.has("sharpness", 5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_null(value: float, tmp_path: Path):
    records = Records(tmp_path)
    records.add("metrics", {"step": 0, "gradient_norm": value})
    records.write()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, "gradient_norm": None}
