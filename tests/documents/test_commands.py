"""Every command that a document shows exists, with its options; those on the sample checkpoints run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from sharpcli.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "decisions", ROOT / "sample_checkpoints")
    for path in folder.glob("*.md")
    if path.name != "CHANGELOG.md"
)
GROUP: Any = typer.main.get_command(app)
LONG = (
    "--bottomk 1",
    "--measure all",
    "--density --plot",
    "--subspace 100",
    "surface",
    "sharpness sample_checkpoints/sgd sample_checkpoints/fullbatch",
)


def shown() -> list[tuple[str, str]]:
    """Return every line that begins with sharpcli, in a code block or between backticks, with the page it is on."""
    found = []
    for page in PAGES:
        text = re.sub(r"<!-- figures.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        joined = re.sub(r"\\\n\s*", "", text)
        lines = re.findall(r"^ {4}(?:\$ )?(sharpcli [a-z].*)$", joined, re.MULTILINE)
        lines += [" ".join(one.split()) for one in re.findall(r"`(sharpcli [a-z][^`]*)`", text)]
        found += [(str(page.relative_to(ROOT)), line) for line in lines]
    return sorted(set(found))


def words_of(line: str) -> list[str]:
    return [word for word in shlex.split(line, comments=True)[1:] if word != "..."]


@pytest.mark.parametrize(("page", "line"), shown())
def test_the_command_exists_with_its_options(page: str, line: str):
    name, *words = words_of(line)
    assert name in GROUP.commands, f"{page}: {line}"
    command = GROUP.commands[name]
    command.make_parser(click.Context(command, info_name=name)).parse_args(args=words)


def test_lines_were_found():
    assert len(shown()) > 40
    assert {line.split()[1] for _, line in shown()} >= {"train", "hessian", "sharpness", "interpolate", "compare", "surface"}


def test_a_command_that_is_not_there_would_be_found():
    for line in ("sharpcli hessian ckpt.pt --no-such-option", "sharpcli sharpness --measures all"):
        with pytest.raises(Exception, match="(?i)no such option"):
            test_the_command_exists_with_its_options("page", line)


def lane(line: str) -> list[Any]:
    if any(part in line for part in LONG):
        return [pytest.mark.long]
    return [pytest.mark.slow] * ("interpolate" not in line)


def runnable() -> list[Any]:
    lines = {line.partition("  #")[0].strip() for _, line in shown() if "sample_checkpoints/" in line}
    lines = {line for line in lines if "..." not in line and " train " not in line and "compare" not in line}
    return [pytest.param(line, marks=lane(line), id=line) for line in sorted(lines)]


@pytest.mark.parametrize("line", runnable())
def test_a_command_on_the_sample_checkpoints_runs(line: str, new_process: Callable[..., Any], tmp_path: Path):
    shutil.copytree(ROOT / "sample_checkpoints", tmp_path / "sample_checkpoints")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    answer = new_process(*words_of(line), cwd=tmp_path)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.strip()
