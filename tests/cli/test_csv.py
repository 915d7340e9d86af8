"""--csv: one table with all digits, whatever the command."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_numbers_are_those_of_the_document(sharpcli: Run, runs: Path) -> None:
    words = ("hessian", runs / "sgd", runs / "fullbatch", "--topk", 2)
    answer = sharpcli(*words, "--csv")
    assert answer.exit_code == 0, answer.stderr
    found = rows(answer.stdout)
    results = json.loads(sharpcli(*words, "--json").stdout)["result"]["checkpoints"]
    wanted = [(result, each) for result in results for each in result["eigenvalues"]]
    assert len(found) == len(wanted) == 4
    for row, (result, each) in zip(found, wanted, strict=True):
        assert row["checkpoint"] == result["checkpoint"]["path"]
        assert row["split"] == "train"
        assert float(row["value"]) == each["value"]
        assert [float(row["lower"]), float(row["upper"])] == each["interval"]
        assert row["verdict"] == each["verdict"]
        assert row["verified"] == str(each["verified"]).lower()


@pytest.mark.parametrize(
    ("line", "columns", "count"),
    [
        ("interpolate {0} {1} --points 3", ("start", "end", "alpha", "train_loss"), 5),
        ("distance {0} --per-layer", ("checkpoint", "name", "distance"), 4),
        ("compare {0} {1} --metrics distance", ("label", "path", "gap", "phi"), 2),
        ("surface {0} --points 2", ("checkpoint", "split", "alpha", "beta", "loss"), 4),
        ("inspect {0}", ("name", "shape"), 4),
        ("sharpness --list", ("name", "definition"), 11),
        ("doctor --no-measure", ("name", "kind", "free"), None),
    ],
)
def test_every_command_has_a_table(line: str, columns: tuple[str, ...], count: int | None, sharpcli: Run, runs: Path) -> None:
    answer = sharpcli(*line.format(runs / "sgd", runs / "fullbatch").split(), "--csv")
    assert answer.exit_code == 0, answer.stderr
    found = rows(answer.stdout)
    assert set(columns) <= set(found[0])
    assert count is None or len(found) >= count
    assert None not in found[0]  # No row has more cells than the header.
    if "inspect" in line:
        assert json.loads(found[0]["shape"]) == [4, 5]
    if "compare" in line:
        assert found[0]["phi"] == ""


def test_one_form_of_output_only(sharpcli: Run, final: Path) -> None:
    answer = sharpcli("distance", final, "--csv", "--json")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "--json and --csv are both given" in answer.stderr
