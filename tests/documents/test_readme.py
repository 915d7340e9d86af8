"""The README is one screen: short, no line is folded, and its picture and links are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.sub(r"<!--.*?-->", "", TEXT, flags=re.DOTALL)  # What a reader sees.


def test_it_is_short():
    assert len(SHOWN.split()) <= 600
    assert [line for line in TEXT.splitlines() if len(line) > 100] == []


def test_what_a_new_user_needs_comes_first():
    order = [SHOWN.index(word) for word in ("docs/pictures/first.png", "make demo", "make test", "pip install", "certified")]
    assert order == sorted(order)
    assert (
        len(re.findall(r"^    sharpcli ", SHOWN[SHOWN.index("## Five commands") : SHOWN.index("## Which")], re.MULTILINE)) == 5
    )


def test_every_command_answers_a_question():
    from sharpcli.cli.app import app

    table = SHOWN[SHOWN.index("| question |") : SHOWN.index("## Further")]
    assert set(re.findall(r"`sharpcli ([a-z]+)", table)) == {command.name for command in app.registered_commands}


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
