"""A state to resume from that is no longer what was written is refused in one sentence, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpcli import train
from sharpcli.errors import InputError
from sharpcli.training.loop import Run
from tests.lanes import thinned
from tests.states import change_state

STEPS = 4


@pytest.fixture(scope="module")
def words(data_file: Path) -> dict[str, Any]:
    return {
        "model": "mlp",
        "model_arg": ("hidden=4",),
        "data": f"npz:{data_file}",
        "mode": ("sgd",),
        "steps": STEPS,
        "average": ("ema:0.9",),
        "track_sharpness": 2,
    }


@pytest.fixture
def half(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a run that was killed before it removed its state, and return the state."""
    with monkeypatch.context() as patch:
        patch.setattr(Run, "close", lambda run: None)
        train(**words, out=str(tmp_path))
    return tmp_path / "sgd" / "last.pt"


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no weights": lambda state: state.pop("model"),
    "other weights": lambda state: state["model"].update({"1.bias": torch.ones(5)}),
    "a weight more": lambda state: state["model"].update({"more": torch.ones(5)}),
    "weights of another type": lambda state: state["model"].update({"1.bias": torch.ones(4, dtype=torch.float64)}),
    "momentum of another shape": lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.ones(2)),
    "momentum of no parameter": lambda state: state["optimizer"]["state"].update({9: state["optimizer"]["state"][0]}),
    "another optimizer": lambda state: state["optimizer"]["state"].update({0: {"exp_avg": torch.ones(4, 5)}}),
    "no averages": lambda state: state.update(averages=[]),
    "an average of another kind": lambda state: state["averages"][0].update(kind="tail"),
    "an average of other weights": lambda state: state["averages"][0].update(means=[torch.ones(2)]),
    "an eigenvector of another shape": lambda state: state.update(eigenvector=torch.ones(1, 3)),
    "more updates than there are": lambda state: state.update(updates=STEPS + 1),
    "a record without its update": lambda state: state["records"]["metrics"][-1].pop("step"),
    "no random state": lambda state: state.update(random=torch.zeros(3, dtype=torch.uint8)),
    "no such random state": lambda state: state.update(random=torch.full_like(state["random"], 255)),
}


@pytest.mark.parametrize("name", thinned(CHANGES, 2))
def test_a_state_that_does_not_fit_is_refused(name: str, half: Path, words: dict[str, Any]) -> None:
    change_state(half, CHANGES[name])
    before = half.read_bytes()
    with pytest.raises(InputError, match="holds no run that can be continued") as caught:
        train(**words, out=str(half.parent.parent), resume=True)
    assert "--overwrite" in caught.value.hint
    assert half.read_bytes() == before


def test_the_settings_of_the_optimizer_are_those_of_the_recipe(half: Path, words: dict[str, Any]) -> None:
    change_state(half, lambda state: state["optimizer"].update(param_groups=[{"lr": "fast"}]))
    rows = train(**words, out=str(half.parent.parent), resume=True).rows
    assert rows[0].updates == STEPS


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_lies_in_the_place_of_the_state_is_refused(what: str, half: Path, words: dict[str, Any]) -> None:
    half.unlink()
    half.mkdir() if what == "folder" else os.mkfifo(half)
    with pytest.raises(InputError, match=f"it is a {what}"):
        train(**words, out=str(half.parent.parent), resume=True)


def test_a_complete_run_has_to_say_how_it_ended(half: Path, words: dict[str, Any]) -> None:
    half.unlink()
    final = half.with_name("final.pt")
    content = torch.load(final, weights_only=True)
    assert train(**words, out=str(half.parent.parent), resume=True).rows[0].updates == STEPS
    content["metadata"].pop("stopped_by")
    torch.save(content, final)
    with pytest.raises(InputError, match=r"does not contain the result of a finished run: 'metadata\.stopped_by' is missing"):
        train(**words, out=str(half.parent.parent), resume=True)
