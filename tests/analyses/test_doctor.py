"""`doctor`: what it finds is what torch and the system say, and its advice follows from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import sharpcli
from sharpcli.analyses.doctor import _advice
from sharpcli.errors import SettingsError
from sharpcli.results import DeviceRow
from tests.processes import Machine


def test_what_is_found_is_what_torch_and_the_system_say(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    before = torch.random.get_rng_state()
    found = sharpcli.doctor(data_root=str(tmp_path / "sets"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert found.versions["torch"] == torch.__version__.partition("+")[0] or found.versions["torch"] == torch.__version__
    assert found.versions["sharpcli"] == sharpcli.__version__
    assert found.threads == torch.get_num_threads()
    assert [row.name for row in found.devices][0] == "cpu"
    assert len(found.devices) == 1 + torch.cuda.device_count() + torch.backends.mps.is_available()
    for row in found.devices:
        assert row.gigaflops is not None
        assert 0.1 < row.gigaflops < 1e6
    places = {place.name: place for place in found.places}
    assert places["data sets"].exists
    assert places["data sets"].path == str(tmp_path / "sets")
    assert sharpcli.doctor(measure=False).devices[0].gigaflops is None


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(SettingsError, match="no setting called 'meassure'"):
        sharpcli.doctor(meassure=False)


CPU = DeviceRow(name="cpu", kind="x86", memory=2**34, free=2**34, gigaflops=None)
GPU = DeviceRow(name="cuda:0", kind="GPU", memory=2**36, free=2**36, gigaflops=None)


@pytest.mark.parametrize(
    ("cores", "threads", "load", "devices", "free", "words"),
    [
        (4, 4, 1.0, (CPU, GPU), 2**34, []),
        (4, 1, None, (CPU, GPU), 2**34, ["1 of 4 cores: OMP_NUM_THREADS is 1"]),
        (2, 8, 0.0, (CPU, GPU), 2**34, ["8 threads on 2 cores"]),
        (2, 2, 7.5, (CPU, GPU), 2**34, ["7.5 processes share 2 cores"]),
        (4, 4, 1.0, (CPU,), 2**34, ["GPU"]),
        (4, 4, 1.0, (CPU, GPU), 2**30, ["Only 1.0 GiB"]),
    ],
)
def test_advice_follows_from_what_is_found(
    cores: int, threads: int, load: float | None, devices: tuple[DeviceRow, ...], free: int, words: list[str]
) -> None:
    first = DeviceRow(**{**vars(devices[0]), "free": free})
    given = list(_advice(cores, threads, load, (first, *devices[1:]), {"OMP_NUM_THREADS": "1"}))
    assert len(given) == len(words)
    for sentence, word in zip(given, words, strict=True):
        assert word in sentence


def test_the_command_says_it_in_a_narrow_terminal_and_writes_nothing(machine: Machine, tmp_path: Path) -> None:
    answer = machine("doctor", "--no-measure", cwd=tmp_path, COLUMNS="60", OMP_NUM_THREADS="1")
    assert answer.exit_code == 0, answer.stderr
    assert max(map(len, answer.stdout.splitlines())) <= 60
    for word in ("versions", "Devices", "cpu", "Places", "What would make it faster"):
        assert word in answer.stdout
    assert os.listdir(tmp_path) == []
