"""What the environment tells about the processes of a run."""

from __future__ import annotations

import pytest

from sharpcli import launch
from sharpcli.errors import SettingsError

PLACE = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_torchrun_tells_the_rank(place: pytest.MonkeyPatch) -> None:
    assert launch.launched() == (1, 3)
    assert launch.is_launched_follower()
    place.setenv("RANK", "0")
    assert not launch.is_launched_follower()


@pytest.mark.parametrize("name", PLACE)
def test_without_one_of_the_variables_the_process_is_alone(name: str, place: pytest.MonkeyPatch) -> None:
    place.delenv(name)
    assert launch.launched() is None
    assert not launch.is_launched_follower()


def test_one_process_is_alone(place: pytest.MonkeyPatch) -> None:
    place.setenv("WORLD_SIZE", "1")
    assert launch.launched() is None


@pytest.mark.parametrize(("name", "value"), [("RANK", "3"), ("RANK", "x"), ("WORLD_SIZE", "-2"), ("MASTER_PORT", "0")])
def test_other_values_are_refused(name: str, value: str, place: pytest.MonkeyPatch) -> None:
    place.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        launch.launched()
    assert f"{name}={value}" in refused.value.message
    assert not launch.is_launched_follower()
