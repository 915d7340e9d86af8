"""Completion in a shell: every option with fixed words completes them, without loading torch."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import Any

import pytest

from sharpcli import settings as every
from sharpcli.cli.completion import completer, known_words
from sharpcli.errors import SettingsError

SETTINGS = [getattr(every, name) for name in every.__all__ if name.endswith("Settings")]


def fixed_words() -> list[tuple[type[Any], str, list[str]]]:
    """Return each option that refuses a wrong word with the list of the right ones, when the settings are made."""
    found = []
    for kind in SETTINGS:
        for entry in dataclasses.fields(kind):
            for value in ("nonsense", ("nonsense",)):
                try:
                    kind(**{entry.name: value})
                except SettingsError as error:
                    known = re.search(r"Known: (.*)\.$", error.hint)
                    if known:
                        found.append((kind, entry.name, known[1].split(", ")))
    return found


def test_there_are_such_options() -> None:
    assert len(fixed_words()) > 40


@pytest.mark.parametrize(
    ("kind", "name", "words"), fixed_words(), ids=lambda part: part.__name__ if isinstance(part, type) else str(part)[:20]
)
def test_what_is_accepted_is_completed(kind: type[Any], name: str, words: list[str]) -> None:
    assert sorted(word.rstrip("=") for word in known_words(kind, name)) == sorted(set(words) - {"file.py:fn"})


def test_the_next_word_of_a_list_is_completed() -> None:
    complete = completer(every.TrainSettings, "mode")
    assert complete is not None
    assert complete("") == ["fullbatch", "largebatch", "sgd"]
    assert complete("l") == ["largebatch"]
    assert complete("sgd,") == ["sgd,fullbatch", "sgd,largebatch"]
    assert completer(every.TrainSettings, "steps") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sharpcli hessian net.pt --engine f", {"fused", "forward-over-reverse"}),
        ("sharpcli train --recipe keskar-l", {"keskar-lb"}),
        ("sharpcli sharpness net.pt --measure worst", {"worst-case"}),
        ("sharpcli train --model resnet1", {"resnet152", "resnet18"}),
        ("sharpcli hes", {"hessian"}),
    ],
)
def test_a_shell_gets_the_words(line: str, words: set[str]) -> None:
    code = (
        "import sys; from sharpcli.cli.app import app\n"
        "try: app(prog_name='sharpcli')\n"
        "finally: assert 'torch' not in sys.modules, 'torch'"
    )
    environment = {"_SHARPCLI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert set(done.stdout.split()) == words, done.stderr
    assert "torch" not in done.stderr
