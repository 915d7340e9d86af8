"""Sentences, commands and names in a given number of columns; nothing is cut off."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

UNLIMITED = 1_000_000  # Columns of a pipe or a file: nothing is folded there.
_NARROWEST = 20  # Columns that every layout may use, however narrow the terminal says it is.
_NO_BREAK = "\N{NO-BREAK SPACE}"  # A space at which no line ends.
_ALONE = 0.5  # A quotation up to this share of the width stays on one line.
_QUOTED = re.compile(r"(?<![\w'])'[^'\n]*'(?!\w)")
_BOUND = re.compile(
    r"(?:(?<![^ (])\S{1,8} )?[=≥≤] \S+"  # P = 26506
    r"|(?:(?<![^ (])\S+ )?± \S+"
    r"|\d (?:%|s\b|(?:[KMGT]i)?B\b)"  # A unit.
    r"|\d (?:× \d+ ?)+"
    r"|\[[-−\d][^\[\]]*\]"  # An interval.
    r"|(?<![^ ])--[a-z]\S* [^\s-]\S*"  # An option with its value.
)
_COMMAND = ": sharpcli "  # The start of a command at the end of a message.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def usable(width: int) -> int:
    """Return the width, but at least the smallest that the layouts can use."""
    return max(width, _NARROWEST)


def unbroken(text: str) -> str:
    """Return a name whose spaces do not end a line."""
    return text.replace(" ", _NO_BREAK)


def visible(text: str) -> str:
    """Return a text with its control characters as escapes: a name in a file cannot steer the terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def fold(text: str, width: int, *, hang: int = 2) -> list[str]:
    """Return the lines of a text, each folded at words; a word is broken only if it alone is longer than the width.

    A number stays on one line with its unit and its ±, an option with its value; a short quotation counts as one word.

    Args:
        text: Sentences; spaces at the beginning of a line are preserved.
        width: Columns.
        hang: Indent in columns of the continued lines.
    """
    return [part for line in text.split("\n") for part in _folded(line, max(width, 1), hang)]


def fold_command(command: str, width: int) -> list[str]:
    """Return the lines of a shell command, which can be copied and run; a word that is too long is broken."""
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
            head, tail = _shell_split(now, width - 1)
            lines.append(f"{head}\\")
            now = tail
    return [*lines, now]


def command_of(text: str) -> tuple[str, str]:
    """Return a message without the command at its end, and the command with the colon before it; "" if there is none."""
    sentence, colon, command = text.rpartition(_COMMAND)
    return (sentence, f"{colon}{command}") if colon and ". " not in command else (text, "")


def fold_message(text: str, width: int) -> list[str]:
    """Return the lines of a message; a command at its end that does not fit is on separate lines, which can be copied."""
    lines = fold(text, width)
    sentence, command = command_of(text)
    if len(lines) == 1 or not command:
        return lines
    try:
        return fold(f"{sentence}:", width) + fold_command(f"  {command[2:].rstrip('.')}", width)
    except ValueError:  # A quotation mark that is not closed.
        return lines


def _shell_words(command: str) -> Iterator[str]:
    """Yield the words of a command; an option and its value are one word."""
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
    """Split a line so that a shell joins the two parts to the same words again."""
    indent = line[: len(line) - len(line.lstrip())]
    *before, word = shlex.split(line)
    start = indent + "".join(f"{shlex.quote(part)} " for part in before)
    count = width
    while count > 1 and cell_len(start + shlex.quote(word[:count])) > width:
        count -= 1
    return start + shlex.quote(word[:count]), shlex.quote(word[count:])


def _folded(line: str, width: int, hang: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")))
    if cell_len(line) <= width:
        return [line.replace(_NO_BREAK, " ").rstrip()]
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
    return [part.replace(_NO_BREAK, " ").rstrip() for part in (*lines, now)]


def _words(line: str, width: int) -> list[str]:
    """Return the words of a line, inside of which no line ends."""

    def join(match: re.Match[str]) -> str:
        text = match[0].rstrip(" ")
        return (unbroken(text) if cell_len(text) <= _ALONE * width else text) + " " * (len(match[0]) - len(text))

    bound = _BOUND.sub(join, _QUOTED.sub(join, line))
    return [word for word in bound.split(" ") if word]


def _split(text: str, width: int) -> tuple[str, str]:
    """Split a text after the part that fits into the width."""
    count = width
    while cell_len(text[:count]) > width:
        count -= 1
    return text[:count], text[count:]


def longest_word(text: str, width: int = UNLIMITED) -> int:
    """Return the width of the longest word of a text."""
    return max((cell_len(word) for line in text.split("\n") for word in _words(line, width)), default=0)


def shortened(names: Sequence[str], limit: int) -> list[str]:
    """Return names of at most `limit` columns, with their middle removed; different names stay different."""
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
