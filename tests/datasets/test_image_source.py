"""Images that are decoded when they are used: the same numbers whether they stay in memory or not, and none too many read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sharpcli.datasets.image_source import ImageSource
from sharpcli.datasets.readers import folder as reader
from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import transform_named
from sharpcli.errors import InputError
from sharpcli.inputs import InputSource
from sharpcli.memory import MemoryPlan
from sharpcli.objective import Objective
from tests.datasets.test_transforms import picture_folder

TRANSFORMS = ["mean=0.5,std=0.25,resize=20,crop=16", "{code}:to_numbers"]
CODE = """
from torchvision import transforms
to_numbers = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    return picture_folder(tmp_path / "pictures")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that every decoded file is added to."""
    names: list[str] = []
    own = reader.decode

    def counted(path: str, **how: object) -> object:
        names.append(path)
        return own(path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "decode", counted)
    return names


def loaded(pictures: Path, transform: str) -> DataSplits:
    text = transform.format(code=pictures.parent / "mine.py")
    return reader.load(str(pictures), transform=transform_named(text))


def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryPlan, "holds_data", lambda plan, needed: False)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_numbers_do_not_depend_on_the_memory(pictures: Path, transform: str, monkeypatch: pytest.MonkeyPatch):
    held = loaded(pictures, transform)
    without_room(monkeypatch)
    read = loaded(pictures, transform)
    order = torch.tensor([5, 0, 3, 3])
    for part in ("train", "test"):
        assert torch.equal(held.part(part).inputs[:], read.part(part).inputs[:])
        assert torch.equal(held.part(part).inputs[order], read.part(part).inputs[order])
    assert held.fingerprint() == read.fingerprint()


def test_only_what_is_used_is_decoded_and_only_once(pictures: Path, decoded: list[str]):
    data = loaded(pictures, TRANSFORMS[0])
    assert len(decoded) == 2  # The first of each split.
    train = data.train.inputs
    first = train[torch.tensor([4, 2])]
    assert len(decoded) == 4
    assert torch.equal(train[torch.tensor([4, 2])], first)
    assert len(decoded) == 4
    train[:]
    assert len(decoded) == len(set(decoded)) == 7


def test_an_objective_streams_without_room(pictures: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    held = Objective.of(model, *pair(loaded(pictures, TRANSFORMS[0]).train), chunk_size=4)
    without_room(monkeypatch)
    read = Objective.of(model, *pair(loaded(pictures, TRANSFORMS[0]).train), chunk_size=4)
    assert isinstance(read.inputs, InputSource)
    assert torch.equal(read.gradient(read.parameters()), held.gradient(held.parameters()))
    before = len(decoded)
    read.loss(read.parameters())
    assert len(decoded) == before + 6


def pair(split: Split) -> tuple[InputSource, torch.Tensor]:
    assert isinstance(split.inputs, ImageSource)
    return split.inputs, split.targets


def test_numbers_that_are_not_finite_are_refused_when_they_are_read(pictures: Path):
    code = pictures.parent / "dark.py"
    code.write_text("import torch\ndef numbers(image): return torch.full((3, 4, 4), float(image.width > 30)).log()\n")
    data = reader.load(str(pictures), transform=transform_named(f"{code}:numbers"))
    with pytest.raises(InputError, match="The inputs contain NaN or infinity"):
        data.train.inputs[:]


def test_what_some_images_needed_is_told_after_they_were_read(tmp_path: Path):
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = np.full((8, 8) if number else (8, 8, 3), 100, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / name / "0.png")
    data = resolve(f"folder:{tmp_path}", root="", transform="none")
    assert data.preprocessing == "pixels / 255"
    data.train.inputs[:]
    assert data.preprocessing == "pixels / 255, grey three times"


def test_a_fingerprint_is_of_the_files_and_an_earlier_one_of_the_numbers(pictures: Path):
    data = loaded(pictures, TRANSFORMS[0])
    assert data.fingerprint().startswith("files:")
    numbers = {name: Split(split.inputs[:], split.targets) for name, split in data.parts().items()}
    earlier = DataSplits("earlier", numbers["train"], numbers["test"], 2).fingerprint()
    assert data.has_fingerprint(earlier)
    assert data.has_fingerprint(data.fingerprint())
    assert not data.has_fingerprint("0" * 64)
    assert not data.has_fingerprint("files:" + "0" * 64)
    other = loaded(pictures, "mean=0.5,std=0.5,resize=20,crop=16")
    assert other.fingerprint() != data.fingerprint()
    path = pictures / "train" / "cat" / "2.png"
    with Image.open(path) as image:
        changed = np.array(image)
    changed[0, 0] ^= 255
    Image.fromarray(changed).save(path)
    assert loaded(pictures, TRANSFORMS[0]).fingerprint() != data.fingerprint()
    moved = pictures.rename(pictures.with_name("elsewhere"))
    assert loaded(moved, TRANSFORMS[0]).train.inputs[:].shape == (6, 3, 16, 16)
