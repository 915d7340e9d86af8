"""What `train --track NAME` records is what `sharpness` gives for the saved step.

`tests/science/test_never_lose_a_run.py` compares the lines of a run that was killed and resumed with those of a whole run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest

import sharpcli
from sharpcli.errors import SettingsError

MEASURES = ("gradient-norm@4", "average-case:sigma=0.01,samples=3@2")


def options(folder: Path, **more: Any) -> dict[str, Any]:
    if not (folder / "data.npz").exists():
        random = numpy.random.default_rng(0)
        images = random.normal(size=(60, 1, 8, 8)).astype("float32")
        numpy.savez(folder / "data.npz", x_train=images, y_train=random.integers(0, 3, 60))
    model = {"model": "convnet", "model_arg": ("norm=batch", "width=2"), "data": f"npz:{folder / 'data.npz'}"}
    return model | {"steps": 8, "save_every": 4, "track": MEASURES, "mode": ("sgd",), "batch_size": 20} | more


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "sgd" / "measures.jsonl").read_text().splitlines()]


def test_a_line_is_the_reading_of_the_saved_step(tmp_path: Path):
    """With BatchNorm, whose running statistics change from step to step."""
    sharpcli.train(out=str(tmp_path / "run"), **options(tmp_path))
    found = lines(tmp_path / "run")
    assert [(line["step"], line["measure"].split()[0]) for line in found] == [
        (step, name)
        for step in (0, 2, 4, 6, 8)
        for name in ("gradient-norm", "average-case")
        if step % 4 == 0 or name == "average-case"
    ]
    for step in (4, 8):
        saved = tmp_path / "run" / "sgd" / f"step-{step}.pt"
        readings = sharpcli.sharpness(saved, measure=[text.partition("@")[0] for text in MEASURES]).readings
        for reading in readings:
            line = next(line for line in found if line["step"] == step and line["measure"] == reading.label)
            assert line["value"] == pytest.approx(reading.value, rel=1e-5)
            assert (line["status"], line["note"]) == (reading.status, reading.note)


def test_tracking_does_not_change_a_run(tmp_path: Path):
    sharpcli.train(out=str(tmp_path / "whole"), **options(tmp_path))
    sharpcli.train(out=str(tmp_path / "plain"), **options(tmp_path, track=()))
    whole, plain = ((tmp_path / name / "sgd" / "step-8.pt") for name in ("whole", "plain"))
    assert sharpcli.inspect(whole).checkpoint.sha256 == sharpcli.inspect(plain).checkpoint.sha256


def test_unknown_measures_are_refused_before_the_work(tmp_path: Path):
    for text, said in (("foo@3", "no measure called 'foo'"), ("worst-case:nope=1", "nope"), ("gradient-norm@0", "at least 1")):
        with pytest.raises(SettingsError, match=said):
            sharpcli.train(out=str(tmp_path / "run"), **options(tmp_path, track=(text,)))
    assert not (tmp_path / "run" / "sgd" / "measures.jsonl").exists()
