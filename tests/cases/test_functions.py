"""Small inputs that once got a wrong number or none, run as a user would: no functions, and hard to differentiate.

The right values are of the dense Hessian in float64, by differences of gradients where double backward is in doubt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def words(case: str) -> list[str]:
    return ["--model", f"{HERE / case / 'net.py'}:make", "--data", f"npz:{HERE / case / 'd.npz'}"]


@pytest.mark.parametrize(
    ("case", "values", "remark"),
    [
        ("ctxmid2", (1.3178, 1.1157, 0.8936), "Double backward is wrong"),
        ("wnold", (0.84406, 0.54464), "Double backward is wrong"),
        ("act_Hardsigmoid", (0.9730,), "'hardsigmoid'"),
        ("embbag", (0.5063,), "'embedding_bag'"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_eigenvalues_are_right_and_say_how_they_came_about(
    sharpcli: Callable[..., Any], case: str, values: tuple[float, ...], remark: str, dtype: str
):
    answer = sharpcli("hessian", HERE / case / "ck.pt", *words(case), "--dtype", dtype, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert remark in " ".join(answer.stderr.split())
    document = json.loads(answer.stdout)
    found = document["result"]["eigenvalues"]
    for wanted, one in zip(values, found, strict=False):
        assert one["value"] == pytest.approx(wanted, abs=6e-5)
        assert one["verdict"] == "certified"
    assert "central differences" in document["result"]["conditions"]["engine"]
    assert any(remark in warning for warning in document["warnings"])


@pytest.mark.parametrize(
    ("case", "code", "reason"),
    [
        ("fdropout", 3, "draws random numbers in eval mode"),
        ("stateful", 3, "keeps a state between calls"),
        ("fbn", 3, "Samples depend on each other"),
        ("embmax", 3, "changes its weights in forward ('e.weight')"),
        ("ckptTrue", 3, "use_reentrant=True"),
        ("sqrt0", 4, "not finite at these weights: in 'a.weight'"),
    ],
)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_what_has_no_hessian_is_refused_with_the_reason(sharpcli: Callable[..., Any], case: str, code: int, reason: str):
    for dtype in ("float32", "float64"):
        answer = sharpcli("hessian", HERE / case / "ck.pt", *words(case), "--dtype", dtype)
        assert answer.exit_code == code, answer.stderr
        assert answer.stdout == ""
        assert reason in " ".join(answer.stderr.split())
        assert answer.stderr.count("hint:") == 1
    if case == "sqrt0":
        assert "More precision does not help" in " ".join(answer.stderr.split())
