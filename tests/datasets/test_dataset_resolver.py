"""From a spec string to data in memory: names, aliases, paths, and the cache of one."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sharpcli import plugins
from sharpcli.datasets import resolve as resolver
from sharpcli.datasets.resolve import resolve
from sharpcli.errors import InputError, SettingsError


def test_every_data_set_is_listed() -> None:
    expected = "cifar10 cifar100 csv fashion-mini fashion-mnist folder kjv-mini kmnist mnist npz pt svhn tokens"
    assert plugins.names("datasets/readers") == expected.split()


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("MNIST", "mnist"),
        ("Fashion_Mini", "fashion-mini"),
        ("FashionMNIST", "fashion-mnist"),
        ("CIFAR-10", "cifar10"),
        ("torchvision:CIFAR100", "cifar100"),
        ("Torchvision:FashionMNIST", "fashion-mnist"),
    ],
)
def test_aliases(spec: str, name: str) -> None:
    assert resolver._parse(spec) == (name, "")


def test_paths_keep_their_case_and_colons() -> None:
    assert resolver._parse("NPZ:/A/b:c.npz") == ("npz", "/A/b:c.npz")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("mnits", "Did you mean 'mnist'?"),
        ("imagenet", "cifar10"),
        ("torchvision:CIFAR11", "Did you mean 'cifar10"),
        ("torchvision:fashion-mini", "fashion-mnist"),
        ("hf:mnist", "mnist"),
        ("folder", "folder:PATH"),
        ("npz:", "npz:PATH"),
        ("", "mnist"),
    ],
)
def test_unknown_names_list_the_known(spec: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(spec, root="")
    assert hint in caught.value.hint


@pytest.mark.parametrize("option", ["size=3", "root=/", "download=True", "size"])
def test_wrong_options(option: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve("fashion-mini", root="", arguments=[option])
    assert caught.value.hint


def write(path: Path, value: float) -> None:
    inputs, targets = np.full((2, 1), float(value)), np.array([0, 1])
    np.savez(path, x_train=inputs, y_train=targets, x_test=inputs, y_test=targets)


def test_one_data_set_is_loaded_once_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path, 1)
    first = resolve(f"npz:{path}", root="")
    assert resolve(f"npz:{path}", root="") is first
    write(path, 2)
    os.utime(path, ns=(1, 1))
    second = resolve(f"npz:{path}", root="")
    assert second.train.inputs[0, 0] == 2
    path.unlink()
    with pytest.raises(InputError):
        resolve(f"npz:{path}", root="")


def test_folders_are_read_again_when_an_image_changes(files: ModuleType, tmp_path: Path) -> None:
    files.write_images(tmp_path)
    first = resolve(f"folder:{tmp_path}", root="")
    assert resolve(f"folder:{tmp_path}", root="") is first
    (tmp_path / "train" / "cat" / "1.png").unlink()
    assert len(resolve(f"folder:{tmp_path}", root="").train) == 3


def test_home_is_expanded(files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.npz", 1)
    files.write_mnist(tmp_path / "data", "MNIST")
    assert len(resolve("npz:~/a.npz", root="").train) == 2
    assert len(resolve("mnist", root="~/data").test) == 5


def test_embedded_data_ignore_the_root() -> None:
    assert resolve("fashion-mini", root="/a") is resolve("Fashion-Mini", root="/b")
