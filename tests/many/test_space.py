"""Lanczos vectors that are divided over processes: the answer is that of whole vectors, and of a dense solver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.many.conftest import free_port
from tests.processes import Answer

pytestmark = pytest.mark.slow

SEARCHES = """
import json, sys, torch
from pathlib import Path
from sharpcli import processes
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.processes import SOLO

torch.manual_seed(0)
SIZE = 61
basis = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64))[0]
values = torch.cat([torch.tensor([9.0, 7.0, 6.5, 3.0, -4.0]), torch.linspace(-1, 1, SIZE - 5)]).double()
matrix = basis @ torch.diag(values) @ basis.T
matrix = (matrix + matrix.T) / 2
wanted = Wanted(3, "LA", 1)
answers = []
with processes.joined() as together:
    for divided in (SOLO, together):
        for memory in (None, 40 * SIZE * 8 // divided.size):
            store = KrylovFile(Path(sys.argv[1]) / f"{divided.size} {memory}", {"matrix": 1})
            for limit in (20, 200):  # Interrupted, and continued from the file.
                how = dict(tolerance=1e-8, max_products=limit, memory=memory, store=store, verify="all")
                pairs = eigenpairs(matrix, wanted, divided=divided, **how)
            off = (matrix @ pairs.vectors.T - pairs.vectors.T * pairs.values).norm(dim=0).max()
            row = {"values": pairs.values.tolist(), "off": float(off), "verdicts": pairs.verdicts, "restarts": pairs.restarts}
            row |= {"width": pairs.krylov.rows.shape[1], "residuals": pairs.residuals.tolist(), "confirmed": pairs.confirmed}
            answers.append(row)
    if together.rank == 0:
        print(json.dumps(answers))
"""


def test_divided_vectors_give_the_answer_of_whole_ones(tmp_path: Path) -> None:
    place = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCHES, str(tmp_path / "states")],
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    printed = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], printed
    answers = json.loads(printed[0][0])
    for answer in answers:
        assert answer["values"] == pytest.approx([9, 7, 6.5, -4], abs=1e-9)
        assert answer["verdicts"] == ["certified"] * 4
        assert answer["off"] < 1e-7
        assert answer["confirmed"] == answers[0]["confirmed"]
    whole, restarted, divided, divided_restarted = answers
    assert whole["width"] == 61
    assert divided["width"] == 20  # The first process has 20 of 61 numbers.
    assert restarted["restarts"] == divided_restarted["restarts"]
    assert divided["residuals"] == pytest.approx(whole["residuals"], rel=1e-3, abs=1e-13)


def test_less_memory_than_the_vectors_take_divides_them(
    run: Callable[..., Answer], runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three processes with a limit each hold the vectors without a restart, where one process restarts."""
    monkeypatch.chdir(runs)
    words = ["hessian", "sgd/final.pt", "--topk", 2, "--dtype", "float64", "--tol", 1e-7, "--trace", "--json", "--memory"]
    free = json.loads(run(1, *words, "1GB").stdout)["result"]
    tight = run(3, *words, "12KB", "--state", tmp_path / "state", "--vectors", tmp_path / "v.safetensors")
    assert tight.exit_code == 0, tight.stderr
    found = json.loads(tight.stdout)["result"]
    for one, other in zip(free["eigenvalues"], found["eigenvalues"], strict=True):
        assert other["verdict"] == one["verdict"] == "certified"
        assert other["value"] == pytest.approx(one["value"], rel=1e-7)
    assert found["moments"]["trace"]["value"] == pytest.approx(free["moments"]["trace"]["value"], rel=1e-6)
    again = run(1, *words, "1GB", "--state", tmp_path / "state")
    assert again.exit_code == 0, again.stderr
