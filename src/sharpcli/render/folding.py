"""Sentences, commands and names in a given number of columns; nothing is cut off."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

UNLIMITED = 1_000_000  # Columns of a pipe or a file: nothing is folded there.
_NARROWEST = 20  # Columns that every layout may use, however narrow the terminal says it is.
_KEPT = "\N{NO-BREAK SPACE}"  # A space at which no line ends.
_ALONE = 0.5  # Share of the width up to which a quotation is kept on one line.
_QUOTED = re.compile(r"(?<![\w'])'[^'\n]*'(?!\w)")
_BOUND = re.compile(
    r"(?:(?<![^ (])\S{1,8} )?[=≥≤] \S+"  # P = 26506
    r"|(?:(?<![^ (])\S+ )?± \S+"
    r"|\d (?:%|s\b|(?:[KMGT]i)?B\b)"  # A unit.
    r"|\d (?:× \d+ ?)+"
    r"|\[[-−\d][^\[\]]*\]"  # An interval.
    r"|(?<![^ ])--[a-z]\S* [^\s-]\S*"  # An option with its value.
)
_COMMAND = ": sharpcli "  # What begins a command at the end of a message.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def usable(width: int) -> int:
    """Return a width that something can be laid out in."""
    return max(width, _NARROWEST)


def kept(text: str) -> str:
    """Return a name such that no line ends at a space in it."""
    return text.replace(" ", _KEPT)


def visible(text: str) -> str:
    """Return a text with its control characters as escapes: a name in a file cannot steer the terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def fold(text: str, width: int, *, hang: int = 2) -> list[str]:
    """Return the lines of a text, each folded at words; a word is broken only if it alone is longer than the width.

    A number stays with its unit and its ±, an option with its value, and a short quotation is one word.

    Args:
        text: Sentences; spaces at the beginning of a line stay.
        width: Columns.
        hang: Columns by which what is folded is moved to the right.
    """
    return [part for line in text.split("\n") for part in _folded(line, max(width, 1), hang)]


def fold_command(command: str, width: int) -> list[str]:
    """Return the lines of a command for a shell, which can be copied as they are; a word too long is broken, too."""
    indent = command[: len(command) - len(command.lstrip())]
    if cell_len(command) <= width:
        return [command]
    lines, now = [], indent
    for word in _shell_words(command):
        if now.strip() and cell_len(f"{now} {word} \\") > width:
            lines.append(f"{now} \\")
            now = indent + 4 * " "
        now += (" " if now.strip() else "") + word
        while cell_len(now) + 2 > width:
            head, rest = _shell_split(now, width - 1)
            lines.append(f"{head}\\")
            now = rest
    return [*lines, now]


def command_of(text: str) -> tuple[str, str]:
    """Return a message without the command at its end, and that with the colon before it; "" where there is none."""
    sentence, colon, command = text.rpartition(_COMMAND)
    return (sentence, f"{colon}{command}") if colon and ". " not in command else (text, "")


def fold_message(text: str, width: int) -> list[str]:
    """Return the lines of a message; a command at its end that does not fit gets lines of its own, which can be copied."""
    lines = fold(text, width)
    sentence, command = command_of(text)
    if len(lines) == 1 or not command:
        return lines
    try:
        return fold(f"{sentence}:", width) + fold_command(f"  {command[2:].rstrip('.')}", width)
    except ValueError:  # A quotation mark that is not closed.
        return lines


def _shell_words(command: str) -> Iterator[str]:
    """List the words of a command, an option with its value as one."""
    option = ""
    for word in map(shlex.quote, shlex.split(command)):
        if option and word.startswith("-"):
            yield option
            option = ""
        if word.startswith("--"):
            option = word
        else:
            yield f"{option} {word}".strip()
            option = ""
    if option:
        yield option


def _shell_split(line: str, width: int) -> tuple[str, str]:
    """Return two parts of a line that a shell reads as one word each, or as one where a line ends in between."""
    indent = line[: len(line) - len(line.lstrip())]
    *before, word = shlex.split(line)
    start = indent + "".join(f"{shlex.quote(one)} " for one in before)
    count = width
    while count > 1 and cell_len(start + shlex.quote(word[:count])) > width:
        count -= 1
    return start + shlex.quote(word[:count]), shlex.quote(word[count:])


def _folded(line: str, width: int, hang: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")))
    if cell_len(line) <= width:
        return [line.replace(_KEPT, " ").rstrip()]
    lines, now, after = [], indent, indent + " " * hang
    for word in _words(line, width):
        joined = now + (" " if now.strip() else "") + word
        if cell_len(joined) <= width:
            now = joined
            continue
        if now.strip():
            lines.append(now)
            now = after if cell_len(after + word) <= width or cell_len(word) > width else ""
        now += word
        while cell_len(now) > width:
            head, tail = _split(now, width)
            lines.append(head)
            now = after + tail
    return [part.replace(_KEPT, " ").rstrip() for part in (*lines, now)]


def _words(line: str, width: int) -> list[str]:
    """Return what no line ends inside of."""

    def whole(found: re.Match[str]) -> str:
        text = found[0].rstrip(" ")
        return (kept(text) if cell_len(text) <= _ALONE * width else text) + " " * (len(found[0]) - len(text))

    bound = _BOUND.sub(whole, _QUOTED.sub(whole, line))
    return [word for word in bound.split(" ") if word]


def _split(text: str, width: int) -> tuple[str, str]:
    """Return the part of a text that fits, and the rest."""
    count = width
    while cell_len(text[:count]) > width:
        count -= 1
    return text[:count], text[count:]


def longest_word(text: str, width: int = UNLIMITED) -> int:
    """Return the columns that a text takes when it is folded as narrowly as it can be."""
    return max((cell_len(word) for line in text.split("\n") for word in _words(line, width)), default=0)


def shortened(names: Sequence[str], limit: int) -> list[str]:
    """Return names of at most so many columns, with the middle left out, such that different names stay different."""
    if max(map(cell_len, names), default=0) <= limit:
        return list(names)
    for share in (0.4, 0.25, 0.6, 0.75, 0.1):
        short = [_without_middle(name, limit, share) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    ranks = {name: f" ({rank})" for rank, name in enumerate(dict.fromkeys(names), 1)}
    return [_without_middle(name, limit - len(ranks[name]), 0.4) + ranks[name] for name in names]


def _without_middle(name: str, limit: int, share: float) -> str:
    if cell_len(name) <= limit:
        return name
    head, tail = round(share * (limit - 1)), limit - 1 - round(share * (limit - 1))
    return _split(name, head)[0] + "…" + _split(name[::-1], tail)[0][::-1]
