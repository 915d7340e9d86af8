"""Every random number has a stream of its own, named in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sharpcli
from sharpcli import streams

SOURCE = Path(sharpcli.__file__).parent
NUMBERS = {name: number for name, number in vars(streams).items() if isinstance(number, int)}
# No command uses both: a trace and a subspace of ε-sharpness; a Lanczos search and batches of m-sharpness.
SHARED = {("TRACE_CHECK", "SUBSPACE"), ("BATCH_DIVISION", "ROUNDING_SAMPLES")}
MAKERS = ("generator", "gaussian", "random_start", "anywhere")  # Functions that pass their seeds on to `runtime.generator`.


def uses() -> Iterator[tuple[str, int]]:
    """Yield the stream of each call that makes random numbers, and the number of counters around it; -1 if it varies."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            if name not in MAKERS or not isinstance(node, ast.Call):
                continue
            words = [ast.unparse(argument) for argument in node.args]
            if words and words[-1] == "*seeds":
                continue  # Passed on; the streams are named where the seeds are put together.
            named = [word.removeprefix("streams.") for word in words if word.startswith("streams.")]
            named = named or [word for word in words if word == "stream"]
            assert len(named) == 1, f"{path.name}: {ast.unparse(node)} names no stream"
            yield named[0], -1 if any(word.startswith("*") for word in words) else len(words) - (name == "gaussian") - 2


def test_every_call_names_its_stream():
    known = {name for name, _ in uses()} - {"stream"}
    assert known | {"COORDINATE_NOISE", "ADDITIVE_NOISE"} == set(NUMBERS)  # These two are looped over.


def test_streams_of_one_number_have_different_counters():
    counters = dict(uses())
    counters |= {"COORDINATE_NOISE": 1, "ADDITIVE_NOISE": 1}
    names = sorted(NUMBERS)
    same = {
        (first, second)
        for first in names
        for second in names
        if first < second
        and NUMBERS[first] == NUMBERS[second]
        and (counters[first] == counters[second] or -1 in (counters[first], counters[second]))
    }
    assert same == {tuple(sorted(pair)) for pair in SHARED}
