"""What is no file, no whole file, or asks for more than it holds, is refused before it is waited for or made room for."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from sharpcli import checkpoints, files
from sharpcli.datasets.decoding import decode
from sharpcli.datasets.resolve import resolve
from sharpcli.errors import InputError
from tests.fuzz import damage

NODES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda place: place.symlink_to("/dev/zero"),
    "symbolic links": lambda place: place.symlink_to(place),
    "is empty": Path.touch,
}
READERS: dict[str, Callable[[Path], object]] = {
    "x.pt": files.read_object,
    "x.safetensors": files.read_safetensors,
    "x.npz": files.read_arrays,
    "x.jsonl": lambda place: files.read_lines(place, dict[str, int], "A hint."),
    "x.png": lambda place: decode(str(place), size=None, grayscale=False),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("words", NODES)
def test_only_regular_files_are_opened(words: str, name: str, tmp_path: Path) -> None:
    """A pipe without a writer would be waited for, and a device never ends."""
    NODES[words](tmp_path / name)
    with pytest.raises(InputError, match=words):
        READERS[name](tmp_path / name)


def saved(tmp_path: Path, **how: bool) -> Path:
    torch.save({"w": torch.arange(100.0), "v": torch.ones(7)}, tmp_path / "x.pt", **how)
    return tmp_path / "x.pt"


def repacked(place: Path, how: int) -> None:
    members = [(name, inside, how) for name, inside, _ in damage.members_of(place.read_bytes())]
    place.write_bytes(damage.archive_of(members))


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_checkpoint_that_was_compressed_again_is_called_that(how: int, tmp_path: Path) -> None:
    place = saved(tmp_path)
    repacked(place, how)
    with pytest.raises(InputError, match="compressed by another program"):
        files.read_object(place)
    repacked(place, zipfile.ZIP_STORED)
    assert len(files.read_object(place)["w"]) == 100


def test_a_tensor_that_repeats_one_number_is_not_written_out(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "x": torch.ones(1).expand(10**12)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"'x' .* far more than the file holds"):
        checkpoints.read(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["\ud800", "x" * 2000, "a\nb"])
def test_prefixes_of_tensors_are_text_that_can_be_printed(name: str, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "x.pt", {"w": torch.ones(2), name: torch.ones(2)}, {})
    with pytest.raises(InputError) as caught:
        checkpoints.read(tmp_path / "x.pt")
    assert len(caught.value.message.encode()) < 500


def arrays(**more: numpy.ndarray) -> dict[str, numpy.ndarray]:
    return {"x_train": numpy.zeros((3, 2), "float32"), "y_train": numpy.arange(3), **more}


@pytest.mark.parametrize("shape", ["(9000000000000, 2)", "(3, 1)", "(-3, 2)", "(3, 3)"])
def test_an_array_has_as_many_numbers_as_its_shape_says(shape: str, tmp_path: Path) -> None:
    numpy.savez(tmp_path / "x.npz", **arrays())
    members = damage.members_of((tmp_path / "x.npz").read_bytes())
    (tmp_path / "x.npz").write_bytes(
        damage.archive_of([(name, inside.replace(b"(3, 2)", shape.encode()), how) for name, inside, how in members])
    )
    with pytest.raises(InputError, match="cannot be read as an npz file"):
        resolve(f"npz:{tmp_path / 'x.npz'}", root="")


@pytest.mark.slow
def test_an_array_that_unpacks_to_far_more_than_its_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x_train.npy", "w") as member:
        numpy.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1100, 2**20)})
        for _ in range(1100):
            member.write(bytes(2**20))
    with pytest.raises(InputError, match=r"would unpack to 1\.1 GiB"):
        resolve(f"npz:{tmp_path / 'x.npz'}", root="")


def write_image(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(place)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for kind in ("a", "b"):
            write_image(tmp_path / part / kind / "1.png")
    return tmp_path


def test_a_link_to_a_folder_that_it_is_in_has_an_end(images: Path) -> None:
    assert len(resolve(f"folder:{images}", root="").train) == 2
    (images / "train" / "a" / "again").symlink_to(images / "train" / "a")
    with pytest.raises(InputError, match="link to a folder that contains it"):
        resolve(f"folder:{images}", root="")


def test_a_link_to_another_folder_is_followed(images: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "2.png")
    (images / "train" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(resolve(f"folder:{images}", root="").train) == 3


def test_only_the_two_parts_of_a_folder_of_images_are_walked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """folder:/ must not go through the disk to find that /train is missing."""
    seen = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: seen.append(str(place)) or real(place))
    (tmp_path / "much").mkdir()
    for spec in (f"folder:{tmp_path}", "folder:/"):
        with pytest.raises(InputError, match="There is no folder '.*train'"):
            resolve(spec, root="")
    assert seen == []


def test_an_image_of_too_many_pixels_is_one_sentence(images: Path) -> None:
    place = images / "train" / "a" / "1.png"
    content = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(content, "PNG")
    place.write_bytes(content.getvalue())
    with pytest.raises(InputError, match="more than 89478485 pixels"):
        resolve(f"folder:{images}", root="")


def test_an_image_of_a_format_that_starts_a_program_is_not_opened(images: Path) -> None:
    (images / "train" / "a" / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(InputError, match="cannot be read"):
        resolve(f"folder:{images}", root="")
