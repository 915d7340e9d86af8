"""Every help text of the command line is short, complete and in plain words."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer.main

from sharpcli.cli.app import app

LONGEST = 200  # Characters: a help text says one thing.
LONGEST_PARAGRAPH = 320  # Of a command's description.
# Figures of speech, and words that say less than a term of the field.
BANNED = (
    "anew", "as ever", "at once", "at the rim", "beside", "come about", "found", "go on", "goes on", "judge", "kept", "look at",
    "of its own", "of outliers", "side by side", "takes back", "tell", "tells", "told", "way", "what it", "what they", "whole",
)  # fmt: skip
GROUP: Any = typer.main.get_command(app)
TEXTS: dict[str, str] = {}  # By command and option or argument.
DESCRIPTIONS: dict[str, str] = {"sharpcli": GROUP.help}

for _name, _command in GROUP.commands.items():
    DESCRIPTIONS[_name] = _command.help
for _name, _command in (("sharpcli", GROUP), *GROUP.commands.items()):
    for _parameter in _command.params:
        if not getattr(_parameter, "hidden", False):
            TEXTS[f"{_name} {_parameter.opts[0]}"] = getattr(_parameter, "help", None) or ""


def hard_words(text: str) -> list[str]:
    """Return the banned words in a text."""
    return [word for word in BANNED if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def test_there_are_texts():
    assert len(TEXTS) > 200
    assert len(DESCRIPTIONS) == 12


@pytest.mark.parametrize("place", TEXTS)
def test_an_option_has_one_short_plain_help_text(place: str):
    text = TEXTS[place]
    assert 0 < len(text) <= LONGEST
    assert text.endswith(".")
    assert hard_words(text) == []


@pytest.mark.parametrize("command", DESCRIPTIONS)
def test_a_command_has_a_plain_description(command: str):
    first, *_ = parts = paragraphs(DESCRIPTIONS[command])
    assert len(first) <= LONGEST
    for part in parts:
        assert len(part) <= LONGEST_PARAGRAPH
        assert part.endswith(".")
        assert hard_words(part) == []


@pytest.mark.parametrize("text", ["Samples a pass holds at once.", "Keep the whole search.", "Continue (told elsewhere)."])
def test_a_hard_word_would_be_seen(text: str):
    assert hard_words(text)


def test_a_part_of_a_word_is_not_a_hard_word():
    assert hard_words("Always a wholesale of besides.") == []
