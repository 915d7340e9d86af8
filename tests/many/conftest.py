"""Several processes on this machine that work together, with the variables that torchrun sets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Answer, Machine

MOST = 3


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    made = [Machine(tmp_path_factory.mktemp("machine")) for _ in range(MOST)]
    yield made
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def adam(tmp_path_factory: pytest.TempPathFactory, sharpcli: Callable[..., Answer], tiny: list[str]) -> Path:
    """A run of Adam, whose checkpoint holds the second moments; not to be written to."""
    folder = tmp_path_factory.mktemp("adam")
    answer = sharpcli("train", "--mode", "fullbatch", "--optimizer", "adam", *tiny, "--steps", 6, "--out", folder)
    assert answer.exit_code == 0, answer.stderr
    return folder / "fullbatch"


@pytest.fixture
def start(machines: list[Machine]) -> Callable[..., list[int]]:
    """Start one command line in several processes; return their numbers, the first one first."""

    def started(count: int, *words: object, own: dict[int, list[object]] | None = None, **environment: str) -> list[int]:
        shared = dict(os.environ) | environment
        if count > 1:
            shared |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        numbers = []
        for rank, machine in enumerate(machines[:count]):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
            numbers.append(machine.start(*words, *(own or {}).get(rank, []), cwd=Path.cwd(), **(shared | place)))
        return numbers

    return started


@pytest.fixture
def run(start: Callable[..., list[int]], machines: list[Machine]) -> Callable[..., Answer]:
    """Run one command line in several processes; return the answer of the first one. The others have written nothing."""

    def ran(count: int, *words: object, own: dict[int, list[object]] | None = None, **environment: str) -> Answer:
        start(count, *words, own=own, **environment)
        answers = [machine.end() for machine in machines[:count]]
        for follower in answers[1:]:
            assert (follower.stdout, follower.stderr) == ("", "")
        return answers[0]

    return ran


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
