"""Make src/sharpcli/datasets/kjv-mini.txt.gz from the program `bible` of the Debian packages bible-kjv and bible-kjv-text.

    python tools/make_kjv_mini.py [PROGRAM [FOLDER]]

PROGRAM is the program, and FOLDER holds its file bible.data; by default they are found as installed.
One verse is one line, without its number; an empty line separates two chapters, and two empty lines two books.
The same text and the same zlib give the same bytes, because the gzip file has no time and no name.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src" / "sharpcli" / "datasets" / "kjv-mini.txt.gz"
BOOKS = {"Genesis": 50, "Exodus": 40, "Leviticus": 27, "Numbers": 36, "Deuteronomy": 34}
_VERSE = re.compile(r"^ +(\d+) (.*)$")


def chapter(call: list[str], book: str, number: int) -> list[str]:
    """Return the verses of a chapter in order.

    Raises:
        ValueError: The program has printed something else.
    """
    output = subprocess.check_output([*call, f"{book}{number}:1-999"], text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in output.splitlines() if line.strip()]
    found = [_VERSE.match(line) for line in lines[1:]]
    if lines[:1] != [f"{book} {number}"] or not all(found):
        raise ValueError(f"no chapter {book} {number}: {lines[:2]}")
    verses = [match.groups() for match in found if match]
    if [int(count) for count, _ in verses] != list(range(1, len(verses) + 1)):
        raise ValueError(f"the verses of {book} {number} are not in order")
    return [text.strip() for _, text in verses]


def main(program: str = "bible", folder: str | None = None) -> None:
    """Write the books to `TARGET`."""
    call = [program, "-l10000", *(("-p", f"{folder}/") if folder else ())]
    books = [
        "\n\n".join("\n".join(chapter(call, book, number)) for number in range(1, count + 1)) for book, count in BOOKS.items()
    ]
    text = "\n\n\n".join(books) + "\n"
    TARGET.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, {len(text):,} characters, {len(set(text))} different")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
