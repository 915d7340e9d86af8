"""State is used for the work that wrote it and for no other, as it was written or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest
import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import InputError, SettingsError
from sharpcli.saved_state import SavedState, differing, seal_of
from tests.states import change_state


class Content(TypedDict):
    """What the states of these tests hold."""

    count: int
    parts: dict[str, Tensor]


IDENTITY = {"seed": 0, "plan": {"lr": 0.1, "steps": 4}}
OTHER, DAMAGED = "Name another file.", "Begin anew."


def state(path: Path, identity: dict[str, Any] | None = None, **options: Any) -> SavedState:
    return SavedState(
        path, IDENTITY if identity is None else identity, work="survey", if_other=OTHER, if_damaged=DAMAGED, **options
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    state(tmp_path / "x.pt").write({"count": 3, "parts": {"a": torch.arange(3.0), "b": torch.tensor(True)}})
    return tmp_path / "x.pt"


def test_what_was_written_is_read(written: Path):
    content = state(written).read(Content)
    assert content["count"] == 3
    assert torch.equal(content["parts"]["a"], torch.arange(3.0))


def test_no_file_is_no_state(tmp_path: Path):
    assert state(tmp_path / "x.pt").read(Content) is None


def test_other_work_is_refused_and_what_differs_is_named(written: Path):
    other = {"seed": 1, "plan": {"lr": 0.1, "steps": 5}, "more": 1}
    with pytest.raises(SettingsError, match=r"The survey in .*x.pt differs in these settings: seed, steps, more\.") as caught:
        state(written, other).read(Content)
    assert caught.value.hint == OTHER


def test_an_identity_of_an_earlier_version_is_upgraded(written: Path):
    renamed = {"seed": 0, "recipe": {"lr": 0.1, "steps": 4}}
    upgraded = state(written, renamed, upgrade=lambda saved: {"seed": saved["seed"], "recipe": saved["plan"]})
    assert upgraded.read(Content)["count"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(count=4),
        lambda content: content["parts"]["a"].add_(1e-6),
        lambda content: content["parts"].update(b=torch.tensor(1, dtype=torch.uint8)),
        lambda content: content["parts"].update(a=content["parts"]["a"][:, None]),
        lambda content: content["parts"].update(c=torch.zeros(0)),
    ],
    ids=["number", "entry of a tensor", "type", "shape", "name"],
)
def test_every_change_is_noticed(written: Path, change: Any):
    change_state(written, change, sealed=False)
    with pytest.raises(InputError, match="holds no survey that can be continued: it was changed after it was written"):
        state(written).read(Content)


def test_a_renewed_seal_does_not_make_up_for_a_wrong_type(written: Path):
    change_state(written, lambda content: content.update(count="three"))
    with pytest.raises(InputError, match="'survey.count'") as caught:
        state(written).read(Content)
    assert caught.value.hint == DAMAGED


def test_a_state_without_its_seal(written: Path):
    change_state(written, lambda content: content.pop("seal"), sealed=False)
    assert state(written, sealed=False).read(Content)["count"] == 3
    with pytest.raises(InputError, match="it was changed after it was written"):
        state(written).read(Content)


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "x.pt").write_text("nothing")
    with pytest.raises(InputError, match="holds no survey that can be continued"):
        state(tmp_path / "x.pt").read(Content)
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(InputError, match="holds no survey that can be continued"):
        state(tmp_path / "x.pt").read(Content)


def test_the_first_write_must_succeed_and_a_later_one_may_fail(tmp_path: Path):
    folder = tmp_path / "folder"
    saved = state(folder / "x.pt")
    content = {"count": 1, "parts": {}}
    folder.write_text("in the way")
    with pytest.raises(InputError, match="Cannot write"):
        saved.write_or_warn(content)
    folder.unlink()
    saved.write_or_warn(content)
    (folder / "x.pt").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    with progress.gathering() as messages:
        saved.write_or_warn(content)
    assert ["The state of the survey could not be saved" in message for message in messages] == [True]


def test_names_of_differing_settings():
    assert differing({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"c": 1}}) == []
    assert differing({"a": 1, "b": 2}, {"b": {"c": 1}}) == ["b", "a"]
    assert differing({"a": None}, {}) == ["a"]


def test_the_seal_depends_on_neither_order_nor_device_layout():
    rows = torch.arange(6.0).view(2, 3)
    assert seal_of({"a": 1, "b": rows}) == seal_of({"b": rows.T.contiguous().T, "a": 1, "seal": "any"})
    assert seal_of({"a": [1, 2]}) != seal_of({"a": [[1], 2]})
