"""The embedded text, against its own file."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

import pytest
import torch

from sharpcli.datasets.readers.kjv_mini import VOCABULARY, load
from sharpcli.datasets.resolve import resolve
from sharpcli.errors import SettingsError

FILE = Path(str(resources.files("sharpcli.datasets"))) / "kjv-mini.txt.gz"
# Recorded when the file was made; it stands for the numbers that every published result was computed on.
FINGERPRINT = "e738b197b26e76711190f00d48080dcc93b74fccc9c9123201e02f5f11ba78cc"


def text_of(tokens: torch.Tensor) -> str:
    return "".join(VOCABULARY[token] for token in tokens.flatten().tolist())


def chapters() -> list[list[str]]:
    text = gzip.decompress(FILE.read_bytes()).decode()
    return [book.split("\n\n") for book in text.rstrip("\n").split("\n\n\n")]


def test_samples_are_pieces_of_the_text_and_targets_the_next_characters() -> None:
    data = resolve("KJV_mini", root="")
    assert data.name == "kjv-mini"
    assert data.train.inputs.shape == data.train.targets.shape == (2_552, 64)
    assert data.test is not None
    assert data.test.inputs.shape == (523, 64)
    assert data.train.inputs.dtype == torch.int64
    assert data.num_classes == len(VOCABULARY) == 62
    (genesis, *_) = chapters()
    whole = "\n\n".join(chapter for number, chapter in enumerate(genesis, 1) if number % 5)
    read = text_of(data.train.inputs)
    assert whole.startswith(read)
    assert len(whole) - len(read) <= 64
    assert whole[1:].startswith(text_of(data.train.targets))
    assert "\n\n".join(genesis[4::5]).startswith(text_of(data.test.inputs))
    assert read.startswith("In the beginning God created the heaven and the earth.\nAnd the earth was without form")


def test_the_vocabulary_is_that_of_the_file_whatever_part_is_read() -> None:
    assert sorted(set(gzip.decompress(FILE.read_bytes()).decode())) == list(VOCABULARY)
    assert [len(book) for book in chapters()] == [50, 40, 27, 36, 34]
    small, large = load(context=1000), load(context=1000, books=5)
    assert torch.equal(large.train.inputs[:10], small.train.inputs[:10])
    assert len(large.train) * 1000 == pytest.approx(675_000, rel=0.01)
    assert small.num_classes == large.num_classes


def test_fingerprint_is_the_recorded_one() -> None:
    assert load().fingerprint() == FINGERPRINT


def test_licence_is_beside_the_data() -> None:
    assert "public domain" in FILE.with_name("LICENSE.kjv").read_text()
    assert FILE.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("context=0", "context is 0, below 1"),
        ("books=0", "books is 0, below 1"),
        ("books=6", "books is 6, above 5"),
        ("context=40000", "test split has 33.* characters"),
        ("length=3", "no option called 'length'"),
    ],
)
def test_bad_options(option: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve("kjv-mini", root="", arguments=[option])


def test_it_takes_no_transform() -> None:
    with pytest.raises(SettingsError, match="no images"):
        resolve("kjv-mini", root="", transform="none")
