"""The directory of a zip archive is compared with the file before a member is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sharpcli.errors import InputError
from sharpcli.files import _archive
from tests.fuzz import damage

MEMBERS = {"x/data.pkl": b"a pickle", "x/data/0": bytes(range(200))}


def written(place: Path, how: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(place, "w", how) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    return place.read_bytes()


def names_in(place: Path) -> list[str]:
    with place.open("rb") as file:
        return _archive.require_whole(place, file)


def test_a_whole_archive_gives_the_names_of_its_members(tmp_path: Path):
    written(tmp_path / "x.pt")
    assert names_in(tmp_path / "x.pt") == list(MEMBERS)


def test_a_changed_byte_of_a_member_is_found(tmp_path: Path):
    content = bytearray(written(tmp_path / "x.pt"))
    content[content.index(bytes(range(200))) + 7] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut short"):
        names_in(tmp_path / "x.pt")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_an_archive_that_was_cut_is_found(kept: float, tmp_path: Path):
    content = written(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="damaged or cut short"):
        names_in(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_is_there_twice_is_damage(tmp_path: Path):
    one = ("x/data.pkl", b"a pickle", zipfile.ZIP_STORED)
    (tmp_path / "x.pt").write_bytes(damage.archive_of([one, one]))
    with pytest.raises(InputError, match="damaged or cut short"):
        names_in(tmp_path / "x.pt")


@pytest.mark.parametrize("packed", [False, True])
def test_compressed_members_are_read_only_where_they_may_be(packed: bool, tmp_path: Path):
    written(tmp_path / "x", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        if packed:
            _archive.require_sound(tmp_path / "x", archive, packed=True)
        else:
            with pytest.raises(InputError, match="compressed by another program: its part 'x/data.pkl'"):
                _archive.require_sound(tmp_path / "x", archive, packed=False)


def test_what_would_unpack_to_far_more_than_the_file_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(500_000))
    with zipfile.ZipFile(tmp_path / "x") as archive:
        _archive.require_sound(tmp_path / "x", archive, packed=True)  # Up to 1 GiB any ratio is allowed.
        monkeypatch.setattr(_archive, "_SMALL", 1000)
        with pytest.raises(InputError, match="would unpack to"):
            _archive.require_sound(tmp_path / "x", archive, packed=True)
