"""The functions as a user of Python calls them: what is wrong with a call is said in words of Python."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sharpcli
from sharpcli.errors import InputError, SettingsError, in_python

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
SGD, FULL = str(SAMPLES / "sgd"), str(SAMPLES / "fullbatch")
FEW: dict[str, Any] = {"samples": 50}


def test_functions_of_several_take_one_path_as_a_text() -> None:
    surface = sharpcli.surface(SGD, points=3, **FEW)
    assert surface.checkpoint.label == "sgd"
    assert len(sharpcli.compare(SGD, metrics="distance", **FEW).rows) == 1
    assert len(sharpcli.hessian_all(SGD, topk=1, **FEW)) == 1


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: sharpcli.hessian([SGD, FULL]), "One checkpoint is needed, but a list", "hessian_all() and compare()"),
        (lambda: sharpcli.sharpness((SGD,)), "a tuple is given", "for each of them"),
        (lambda: sharpcli.distance([SGD]), "a list is given", "for each of them"),
        (lambda: sharpcli.inspect([SGD]), "The path of one file is needed, but a list", "Give a text or a Path"),
        (lambda: sharpcli.reparam([SGD], "b.pt"), "but a list is given", "Give a text or a Path"),
        (lambda: sharpcli.interpolate([SGD, FULL]), "A path has two ends", "interpolate(start, end)"),
        (lambda: sharpcli.interpolate(SGD), "A path has two ends", "interpolate(start, end)"),
        (lambda: sharpcli.hessian(SGD, tpk=3), "no setting called 'tpk'", "Did you mean 'topk'?"),
        (lambda: sharpcli.hessian(SGD, topk=-1), "^topk is -1, but must be at least 0", "Give topk another value"),
        (lambda: sharpcli.hessian(SGD, topk="3"), "^topk cannot be '3'", "It takes a whole number"),
        (lambda: sharpcli.sharpness(SGD, epsilon=("x",)), "^epsilon cannot be", "one or several of: a number"),
        (lambda: sharpcli.hessian(SGD, max_hvp=1), "^max_hvp=1 is less than", "leave max_hvp out"),
        (lambda: sharpcli.hessian(SGD, topk=0), "^topk=0 leaves nothing", "Add trace, density or at least topk=1."),
    ],
)
def test_a_call_that_cannot_be_is_refused_in_words_of_python(call: Callable[[], Any], message: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        call()
    assert re.search(message, str(caught.value))
    shown = "".join(traceback.format_exception(caught.value))
    assert hint in shown[shown.index("hint: ") :]
    assert "--" not in str(caught.value)


def test_the_error_itself_keeps_the_words_of_the_command_line() -> None:
    with pytest.raises(SettingsError) as caught:
        sharpcli.hessian(SGD, max_hvp=1)
    assert caught.value.message.startswith("--max-hvp 1")
    assert InputError("Use --dtype float64.").message == "Use --dtype float64."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Use --dtype float64, or --chunk-size 8.", 'Use dtype="float64", or chunk_size=8.'),
        ("Add --topk 1 or more.", "Add topk=1 or more."),
        ("Give --init FILE.", "Give init=FILE."),
        ("Add --data-arg tokens=True.", 'Add data_arg="tokens=True".'),
        ("See 'sharpcli hessian --help' for --tol.", "See 'sharpcli hessian --help' for tol."),
        ("Continue it: sharpcli train --resume runs/a", "Continue it: sharpcli train --resume runs/a"),
        ("--epsilon contains 1e-3 -- twice.", "epsilon contains 1e-3 -- twice."),
        ("Leave --no-amp out.", "Leave amp=False out."),
        ("Raise --max-hvp or --tol.", "Raise max_hvp or tol."),
    ],
)
def test_options_become_arguments(text: str, wanted: str) -> None:
    assert in_python(text) == wanted
