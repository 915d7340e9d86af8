"""What all tests share: a tiny data set, runs on it, and the command line in this process and in a new one."""

from __future__ import annotations

import os

# OpenMP reads these once, when torch loads it, so they must be set before any import of torch. Without them idle
# threads spin: on a busy machine two workers of two threads each then run about a thousand times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
if "PYTEST_XDIST_WORKER" in os.environ:  # One of several workers, each of which has a core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sharpcli.cli.app import app
from tests.processes import Answer, Machine

os.environ.pop("COLUMNS", None)  # Runners of tests in parallel set it; a test that wants a width says so.

# A shell that runs the tests in the background has SIGINT ignored, and a process that tests press Ctrl-C on inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NUM_TRAIN, NUM_TEST, FEATURES, CLASSES = 60, 30, 5, 3


DEVICE = "SHARPCLI_TEST_DEVICE"  # Read by tests/device.py, and by processes that tests start.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default=os.environ.get(DEVICE, "cpu"), help="what tests compute on")


def pytest_configure(config: pytest.Config) -> None:
    device = os.environ[DEVICE] = config.getoption("device")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        raise pytest.UsageError(f"There is no device {device} on this machine.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("device") != "cpu":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="about the CPU itself"))


def without_progress(stderr: str) -> str:
    """Leave out what tells of progress, which depends on how fast the machine is; see tests/cli/test_life_signs.py."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith("progress: "))


@pytest.fixture(scope="session")
def sharpcli() -> Callable[..., Answer]:
    """Run one command line in this process."""

    def run(*words: object, **environment: str) -> Answer:
        result = CliRunner().invoke(app, [str(word) for word in words], env=environment)
        return Answer(result.exit_code, result.stdout, without_progress(result.stderr))

    return run


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    made.close()


@pytest.fixture
def new_process(machine: Machine) -> Callable[..., Answer]:
    """Run one command line in a process of its own, in the folder and with the environment of this one."""

    def run(*words: object, cwd: Path | None = None, **environment: str) -> Answer:
        answer = machine(*words, cwd=cwd or Path.cwd(), **(os.environ | environment))
        return Answer(answer.exit_code, answer.stdout, without_progress(answer.stderr))

    return run


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    """Three overlapping Gaussian clouds: nothing is separable, so losses stay away from 0."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, FEATURES))
    parts = {}
    for part, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        classes = np.arange(count) % CLASSES
        parts[f"x_{part}"] = (centres[classes] + random.normal(size=(count, FEATURES))).astype(np.float32)
        parts[f"y_{part}"] = classes
    return parts


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("data") / "clouds.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def tiny(data_file: Path) -> list[str]:
    """Name a model of 39 parameters and the data."""
    return ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"npz:{data_file}"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, sharpcli: Callable[..., Answer], tiny: list[str]) -> Path:
    """All three modes after five updates, with saved steps; not to be written to."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["train", "--mode", "sgd,largebatch,fullbatch", *tiny, "--steps", 5, "--save-every", 2, "--out", folder]
    answer = sharpcli(*words)
    assert answer.exit_code == 0, answer.stderr
    return folder


@pytest.fixture(scope="session")
def final(runs: Path) -> Path:
    return runs / "sgd" / "final.pt"


@pytest.fixture
def load() -> Callable[[Path], dict[str, Any]]:
    """Open a checkpoint as anybody can: plain PyTorch, without running code in it."""
    return lambda path: torch.load(path, weights_only=True)


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, str]]:
    """Tell what is in a folder: every file, hidden ones too, with the hash of its bytes, and every folder."""

    def look(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(folder.rglob("*"))
        }

    return look
