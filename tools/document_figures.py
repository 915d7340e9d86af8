"""Hold the figures of the documents to the commands that make them.

    python tools/document_figures.py             write: run every command, and put in what it answers
    python tools/document_figures.py --check     compare only; the exit code is 1 where a figure is not what its command gives
    python tools/document_figures.py --slow docs/findings.md      also blocks marked `slow`; only these documents

A block of a document is

    <!-- figures
    name = COMMAND OPTIONS          a command of sharpcli, run with --json from the root of the project; one or more
    name = text COMMAND OPTIONS     the same, and {name[lines][0]} is the first line that it prints on 96 columns
    slow                            it takes longer than 20 seconds (optional)
    within 0.05                     figures may differ by so large a share (optional; 0.002 otherwise)
    text with {name[rows][0][phi]:.4g} in place of figures
    -->
    text with figures
    <!-- end -->

A place is written as for `str.format`; `.2%` prints a share with a space before the sign. A figure fits if it differs by
no more than the share that is allowed, or by one unit of its last digit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "sample_checkpoints/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
WITHIN = 0.002
_BLOCK = re.compile(r"(?P<head><!-- figures\n(?P<recipe>.*?)\n-->\n)(?P<text>.*?)(?P<end>\n *<!-- end -->)", re.DOTALL)
_COMMAND = re.compile(r"(\w+) = ([a-z]+ [^{}]+)")
_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """Figures of a document: the commands that make them, a template, and the text as it stands."""

    document: str
    commands: dict[str, tuple[str, ...]]
    slow: bool
    within: float
    template: str
    text: str

    def rendered(self, run: Callable[[tuple[str, ...]], Any]) -> str:
        """Return the text as the commands answer now."""
        return _Places().vformat(self.template, (), {name: run(words) for name, words in self.commands.items()})


class _Places(string.Formatter):
    """Prints a share with a space before the sign, and a minus as one."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a value as its specification says."""
        text: str = super().format_field(value, format_spec)
        return re.sub(r"^( *)-(?=[\d.])", r"\1−", text).replace("%", " %" if format_spec.endswith("%") else "%")


def blocks(document: str) -> Iterator[Block]:
    """Go through the blocks of a document."""
    for found in _BLOCK.finditer((ROOT / document).read_text(encoding="utf-8")):
        yield _block(document, found)


def run_command(words: tuple[str, ...]) -> Any:
    """Return the result of a command of sharpcli, run from the root of the project."""
    is_text = words[0] == "text"
    done = subprocess.run(
        [sys.executable, "-m", "sharpcli", *(words[1:] if is_text else (*words, "--json"))],
        env=os.environ | {"COLUMNS": "96"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"sharpcli {shlex.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return {"lines": done.stdout.splitlines()} if is_text else json.loads(done.stdout)["result"]


def differences(block: Block, now: str, within: float | None = None) -> list[str]:
    """Return how a text differs from what its commands answer now, in words; nothing where it fits."""
    if _NUMBER.sub("#", block.text).split() != _NUMBER.sub("#", now).split():
        return [f"{block.document}: the words of a block are not those of its template: {block.text.strip()[:60]!r}"]
    pairs = zip(_NUMBER.findall(block.text), _NUMBER.findall(now), strict=True)
    share = block.within if within is None else within
    return [f"{block.document}: {old} stands where the command gives {new}" for old, new in pairs if not _fits(old, new, share)]


def main(arguments: list[str] | None = None) -> int:
    """Write or check the documents, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", default=DOCUMENTS)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--slow", action="store_true", help="also the blocks marked slow")
    parser.add_argument("--instead", metavar="A=B", help="with --check: run the commands on the folder B in place of A")
    parser.add_argument("--within", type=float, help="with --check: the share that figures may differ by, for all blocks")
    asked = parser.parse_args(arguments)
    old, _, new = (asked.instead or "").partition("=")
    answers: dict[tuple[str, ...], Any] = {}
    wrong: list[str] = []

    def run(words: tuple[str, ...]) -> Any:
        words = tuple(word.replace(old, new) if old else word for word in words)
        if words not in answers:
            print(f"sharpcli {shlex.join(words)}", file=sys.stderr)
            answers[words] = run_command(words)
        return answers[words]

    for document in asked.documents:

        def renewed(found: re.Match[str], document: str = document) -> str:
            block = _block(document, found)
            if block.slow and not asked.slow:
                return found[0]
            now = block.rendered(run)
            wrong.extend(differences(block, now, asked.within))
            return found["head"] + now + found["end"]

        path = ROOT / document
        text = path.read_text(encoding="utf-8")
        after = _BLOCK.sub(renewed, text)
        if not asked.check and after != text:
            path.write_text(after, encoding="utf-8")
    print("\n".join(wrong) or "Every figure is what its command gives.")
    return int(asked.check and bool(wrong))


def _block(document: str, found: re.Match[str]) -> Block:
    commands: dict[str, tuple[str, ...]] = {}
    slow, within, lines = False, WITHIN, found["recipe"].split("\n")
    while lines:
        line = lines[0].strip()
        if command := _COMMAND.fullmatch(line):
            commands[command[1]] = tuple(shlex.split(command[2]))
        elif line == "slow":
            slow = True
        elif line.startswith("within "):
            within = float(line.removeprefix("within "))
        else:
            break
        lines.pop(0)
    return Block(document, commands, slow, within, "\n".join(lines), found["text"])


def _fits(old: str, new: str, within: float) -> bool:
    """Tell whether two numbers, as printed, are equal but for a share, or one unit of the last digit of the first."""
    first, second = (float(text.replace(",", "").replace("−", "-")) for text in (old, new))
    mantissa, _, exponent = old.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(first - second) <= max(within * abs(second), 1.001 * unit if "." in mantissa or exponent else 0)


if __name__ == "__main__":
    sys.exit(main())
