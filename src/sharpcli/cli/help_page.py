"""The text of --help: plain lines in groups, the common options first, and examples at the end."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import typer

from sharpcli.cli.panels import QUESTIONS, panel_of, place_of

_WIDEST, _NARROWEST = 100, 30  # Columns of a page.
_NAMES = 25  # Columns for the names of options, if the page is wide enough for two columns.
_JOINED = "\N{NO-BREAK SPACE}"  # Between an option and its value, while a command is folded.
_TWO_COLUMNS = 60  # Narrower pages have the text below the name.


def of_command(context: Any, command: Any, examples: Sequence[tuple[str, str]], width: int) -> str:
    """Return the help of a command.

    Args:
        context: Context of the parser.
        command: The command.
        examples: Command lines with a sentence about each.
        width: Columns of the terminal.
    """
    width = _bounded(width)
    name, parameters = context.info_name or command.name, command.get_params(context)
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    usage = " ".join(["sharpcli", name, *(one.metavar or one.human_readable_name for one in arguments), "[OPTIONS]"])
    parts = [
        _filled(f"Usage: {usage}", width, " " * 4, first="").replace("Usage:", _bold("Usage:"), 1),
        *_paragraphs(command.help or "", width),
    ]
    if arguments:
        parts.append(_section("Arguments", [(one.metavar or "", one.help or "") for one in arguments], width))
    parts += (_section(title, entries, width) for title, entries in _options(name, parameters))
    if examples:
        lines = [f"{_filled(f'# {text}', width, '  ')}\n{_command_line(line, width)}" for line, text in examples]
        parts.append("\n".join([_bold("Examples"), *lines]))
    return "\n\n".join(parts) + "\n"


def of_group(context: Any, group: Any, width: int) -> str:
    """Return the help of the group of commands: the commands by the question that they answer."""
    width = _bounded(width)
    parts = [f"{_bold('Usage:')} sharpcli COMMAND [OPTIONS]", *_paragraphs(group.help or "", width)]
    for question in QUESTIONS:
        entries = [
            (name, _first_sentence(command.help or ""))
            for name, command in group.commands.items()
            if command.rich_help_panel == question
        ]
        parts.append(_section(question, entries, width, names=15))
    options = [(_names(one), one.help or "") for one in group.get_params(context) if not getattr(one, "hidden", False)]
    parts.append(_section("Options", options, width))
    parts.append(_filled("'sharpcli COMMAND --help' has the options of a command, and examples.", width))
    return "\n\n".join(parts) + "\n"


def _options(command: str, parameters: Sequence[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each group of options with names and texts."""
    shown = [one for one in parameters if one.param_type_name == "option" and not getattr(one, "hidden", False)]
    panels = {id(one): panel_of(command, str(one.name), getattr(one, "rich_help_panel", None)) for one in shown}
    shown.sort(key=lambda one: place_of(command, str(one.name), panels[id(one)]))
    for panel, own in groupby(shown, key=lambda one: panels[id(one)]):
        yield panel, [(_names(one), _text(one)) for one in own]


def _names(option: Any) -> str:
    """Return how an option is written: -q, --quiet, or --topk K."""
    flags = sorted((*option.opts, *option.secondary_opts), key=lambda flag: (flag.startswith("--"), flag.startswith("--no-")))
    value = "" if option.is_flag or option.count else f" {option.metavar or 'VALUE'}"
    return ", ".join(flags) + value


def _text(option: Any) -> str:
    """Return the help text of an option with its default, unless the text has it or there is none."""
    text, default = option.help or "", option.default
    if default in (None, False, "", [], ()) or callable(default) or option.is_flag or "Default:" in text:
        return text
    return f"{text} [{','.join(map(str, default)) if isinstance(default, list | tuple) else default}]"


def _section(title: str, entries: Sequence[tuple[str, str]], width: int, names: int = _NAMES) -> str:
    """Return a title and its entries: names left, texts right; on a narrow page each text is below its name."""
    lines = [_bold(title)]
    narrow = width < _TWO_COLUMNS
    indent = " " * (6 if narrow else names)
    for name, text in entries:
        if narrow or len(name) + 4 > names:
            lines += [f"  {name}", _filled(text, width, indent)]
        else:
            lines.append(_filled(text, width, indent, first=f"  {name}".ljust(names)))
    return "\n".join(lines)


def _paragraphs(text: str, width: int) -> Iterator[str]:
    """Yield the paragraphs of a text, folded; lines that begin with * are a list."""
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = [" ".join(line.split()) for line in re.split(r"\n(?=\s*\*)", part.strip())]
        yield "\n".join(_filled(line, width, "  " if line.startswith("*") else "", first="") for line in lines)


def _filled(text: str, width: int, indent: str = "", *, first: str | None = None) -> str:
    """Return a text folded at words."""
    start = indent if first is None else first
    return textwrap.fill(" ".join(text.split()), width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)


def _command_line(line: str, width: int) -> str:
    """Return a command folded as a shell takes it; an option and its value stay on one line where this is possible."""
    joined = re.sub(r"(--[a-z-]+) (?!-)", rf"\1{_JOINED}", line)
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(joined, width - 2, initial_indent="  ", subsequent_indent=" " * 6, **options)
    return " \\\n".join(lines).replace(_JOINED, " ")


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _bounded(width: int) -> int:
    return max(min(width, _WIDEST), _NARROWEST)


def _bold(text: str) -> str:
    """Return a text in bold; a pipe gets plain text, since the parser removes all colours there."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=True)
