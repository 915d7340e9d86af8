"""--help: commands by question, options in groups with the common ones first, and examples that run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sharpcli.cli.app import app
from sharpcli.cli.panels import COMMON, MORE, QUESTIONS, panel_of

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
FAST = ("sharpness --list", "distance sample_checkpoints/fullbatch")  # The others take seconds.
LINES = [(line, text) for command in COMMANDS.values() for line, text in command.examples]


def sections(text: str) -> dict[str, str]:
    """Return the parts of a page by their titles."""
    parts = [part.partition("\n") for part in text.strip().split("\n\n")]
    return {title: body for title, _, body in parts}


def shown(sharpcli: Run, *words: str, width: int = 80) -> str:
    answer = sharpcli(*words, "--help", COLUMNS=str(width))
    assert answer.exit_code == 0
    return str(answer.stdout)


def test_each_command_is_below_the_question_that_it_answers(sharpcli: Run) -> None:
    page = sections(shown(sharpcli))
    named = [re.findall(r"^  (\S+)", page[question], re.MULTILINE) for question in QUESTIONS]
    assert named[0] == ["hessian", "sharpness", "compare", "watch"]
    assert sorted(name for names in named for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_common_options_come_first_and_every_option_is_there_once(name: str, sharpcli: Run) -> None:
    text = shown(sharpcli, name)
    titles = list(sections(text))
    assert titles.index(COMMON) == titles.index("Arguments") + 1 if "Arguments" in titles else titles[2] == COMMON
    assert titles[-1] == "Examples"
    assert MORE not in titles  # An option without a group belongs into cli/panels.py.
    flags = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)
    options = [one for one in COMMANDS[name].params if one.param_type_name == "option" and not one.hidden]
    assert sorted(flags) == sorted([*(max(one.opts, key=len) for one in options), "--help"])


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_page_is_as_wide_as_the_terminal_and_says_the_same_at_any_width(width: int, sharpcli: Run) -> None:
    for name in ("hessian", "train", "surface"):
        text, wide = (shown(sharpcli, name, width=one) for one in (width, 100))
        longest = max(text.splitlines(), key=len)
        assert len(longest) <= width or " " not in longest.strip(" \\")
        assert max(map(len, text.splitlines())) <= 100
        assert re.sub(r"[\s\\]", "", text) == re.sub(r"[\s\\]", "", wide)


def test_a_default_is_shown_once(sharpcli: Run) -> None:
    text = " ".join(shown(sharpcli, "hessian").split())
    assert "0 for none. [5]" in text
    assert "as well, from the same Krylov space. --trace" in text
    assert not re.search(r"Default:[^.]*\. \[", text)


def test_an_unknown_option_has_a_group() -> None:
    assert panel_of("hessian", "of_tomorrow") == MORE
    assert panel_of("train", "lr", "Learning rate and length") == COMMON
    assert panel_of("train", "warmup", "Learning rate and length") == "Learning rate and length"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_two_or_three_examples_that_can_be_copied(name: str, sharpcli: Run) -> None:
    examples = COMMANDS[name].examples
    assert 2 <= len(examples) <= 3
    body = re.sub(r" \\\n\s*", " ", sections(shown(sharpcli, name))["Examples"])
    for line, text in examples:
        assert f"  {line}" in body.splitlines()
        assert text.endswith((".", "?"))
        assert f"{line} ".startswith(f"sharpcli {name} ")


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] * (not any(one in line for one in FAST))) for line, _ in LINES]
)
def test_an_example_runs(line: str, new_process: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sample_checkpoints", tmp_path / "sample_checkpoints")
    words = shlex.split(line)[1:]
    answer = new_process(*words, cwd=tmp_path)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.strip()
    if "--plot" in words:
        assert (tmp_path / words[words.index("--plot") + 1]).stat().st_size > 1000
