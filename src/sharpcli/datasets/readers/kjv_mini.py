"""A text, a file of the package: Genesis to Deuteronomy in the King James Version, by characters; for --model gpt.

Reference: The Holy Bible, King James Version, 1611; public domain; from the Debian package bible-kjv-text 4.38.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sharpcli.arguments import require_at_least
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.next_tokens import next_tokens
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import SettingsError

VOCABULARY = "\n !'(),-.:;?ABCDEFGHIJKLMNOPRSTUVWYZabcdefghijklmnopqrstuvwxyz"  # Every character of the file; there is no Q.
_BOOKS, _CHAPTERS = "\n\n\n", "\n\n"  # What separates them in the file.
_NUM_BOOKS = 5
_TEST = 5  # Chapters 5, 10, 15, ... of each book are the test split.


def load(root: str = "", *, download: bool = False, context: int = 64, books: int = 1) -> DataSplits:
    """Read the text in the package; no other files and no network are needed.

    A character is a token, and its number is its place in `VOCABULARY`, whatever `books` is. A verse is one line. The chapters
    of a split follow each other, with an empty line between them, and are cut into pieces that do not overlap.

    Args:
        root: Not used.
        download: Not used.
        context: T, the number of input characters of a sample. The target of each is the next character.
        books: Number of books, 1 (Genesis) to 5 (Genesis, Exodus, Leviticus, Numbers, Deuteronomy).

    Returns:
        Tokens and next tokens, int64, both (N, T), in 62 classes. The test split has the chapters 5, 10, 15, ... of each
        book, and the training split the others: 163,000 characters for training and 33,000 for testing with one book, 675,000
        and 140,000 with five.

    Raises:
        SettingsError: `context` is below 1 or longer than a split, or `books` is not 1 to 5.

    References:
        The script `tools/make_kjv_mini.py` creates the file.
    """
    require_at_least("context", context, 1)
    require_at_least("books", books, 1)
    if books > _NUM_BOOKS:
        raise SettingsError(f"The option books is {books}, above {_NUM_BOOKS}.", "Choose 1 to 5.")
    place = resources.files("sharpcli.datasets").joinpath("kjv-mini.txt.gz")
    text = gzip.decompress(place.read_bytes()).decode("ascii").rstrip("\n")
    chapters = [book.split(_CHAPTERS) for book in text.split(_BOOKS)[:books]]
    arrays = {}
    for part in ("train", "test"):
        chosen = [one for book in chapters for number, one in enumerate(book, 1) if (number % _TEST == 0) == (part == "test")]
        tokens = _tokens(_CHAPTERS.join(chosen))
        if len(tokens) <= context:
            message = f"The option context is {context}, but the {part} split has {len(tokens)} characters."
            raise SettingsError(message, "Choose a shorter context, or more books.")
        arrays[f"x_{part}"], arrays[f"y_{part}"] = next_tokens(tokens, context, "kjv-mini")
    data = splits_of_arrays(arrays, "kjv-mini", "kjv-mini", tokens=True, num_classes=len(VOCABULARY))
    return replace(data, changes="characters as tokens, targets are the next characters")


def _tokens(text: str) -> NDArray[np.uint8]:
    """Return the numbers of the characters of a text in `VOCABULARY`."""
    number = np.full(128, 255, dtype=np.uint8)
    number[np.frombuffer(VOCABULARY.encode("ascii"), dtype=np.uint8)] = np.arange(len(VOCABULARY))
    return number[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
