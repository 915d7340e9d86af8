"""Every command that needs second derivatives gets them right or refuses, whatever the model does to them; none crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import crossed

CASES = Path(__file__).parents[1] / "cases"
# What the largest eigenvalue is, by differences of float64 gradients over all weights.
MISSING_OR_WRONG = {"ctxmid2": 1.3178, "wnold": 0.84406, "act_Hardsigmoid": 0.9730, "embbag": 0.5063}
LINES = [
    "hessian {a} --topk 1",
    "hessian {a} --topk 1 --per-layer --ggn-split --trace --density",
    "hessian {a} --topk 1 --operator ggn",
    "compare {a}",
    "sharpness {a} --eigenvector",
    "sharpness {a} --measure local-volume --measure fisher-rao",
    "interpolate {a} {a} --points 2 --curvature",
    "surface {a} --points 2 --axes eigen",
    "train --steps 2 --out {out} --track-sharpness 1",
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
]


def words_of(case: str, line: str, out: Path) -> list[str]:
    folder = CASES / case
    words = line.format(a=folder / "ck.pt", out=out).split()
    return [*words, "--model", f"{folder / 'net.py'}:make", "--data", f"npz:{folder / 'd.npz'}"]


@pytest.mark.parametrize(("line", "case"), crossed(LINES, MISSING_OR_WRONG))
def test_differences_take_over_with_a_warning(case: str, line: str, sharpcli: Callable[..., Any], tmp_path: Path):
    answer = sharpcli(*words_of(case, line, tmp_path / "out"), "--json")
    assert answer.exit_code == 0, answer.stderr
    told = " ".join(answer.stderr.split())
    if "fisher-rao" not in line and "ggn" not in line.split()[-1]:
        assert "differences of float64 gradients" in told
    result = json.loads(answer.stdout)["result"]
    found = {
        "compare": lambda: result["rows"][0]["lambda_max"],
        "hessian": lambda: result["lambda_max"],
        "interpolate": lambda: result["curvature"]["lambda_max"][0],
        "surface": lambda: result["eigenvalues"][0],
    }.get(line.split()[0], lambda: MISSING_OR_WRONG[case])()
    if "ggn" not in line.split():
        assert found == pytest.approx(MISSING_OR_WRONG[case], rel=2e-3)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("case", "codes"), [("sqrt0", (0, 4)), ("ckptTrue", (0, 3))])
def test_what_cannot_be_had_is_refused_in_words(
    case: str, codes: tuple[int, int], line: str, sharpcli: Callable[..., Any], tmp_path: Path
):
    answer = sharpcli(*words_of(case, line, tmp_path / "out"))
    assert answer.exit_code in codes, answer.stderr
    assert "Internal error" not in answer.stderr
    if answer.exit_code:
        assert answer.stdout == "" or "--curvature" in line  # The path itself needs no derivative, and is shown.
        assert "not finite" in answer.stderr or "use_reentrant" in answer.stderr
