"""The device of the tests is the one that was asked for, in this process and in those that tests start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpcli.runtime import Runtime
from tests.device import DEVICE, VARIABLE, on_device
from tests.nets import objective, vector_for
from tests.processes import Machine


def test_tests_compute_where_it_was_asked_for(request: pytest.FixtureRequest):
    asked = request.config.getoption("device")
    assert os.environ[VARIABLE] == asked == DEVICE.type == on_device().device.type
    problem = objective("mlp")
    assert {problem.inputs.device.type, problem.parameters().device.type, vector_for(problem).device.type} == {asked}


def test_a_command_line_takes_it_by_default(sharpcli: Callable[..., Any], machine: Machine, final: Path):
    assert Runtime.open().device.type == DEVICE.type
    assert torch.cuda.is_available() == (DEVICE.type == "cuda")
    for run in (sharpcli, machine):
        answer = run("hessian", final, "--topk", 1)
        assert answer.exit_code == 0, answer.stderr
        assert f" on {DEVICE.type}," in answer.stdout
