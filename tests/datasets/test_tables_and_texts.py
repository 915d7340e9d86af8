"""`csv:`, `tokens:` and `pt:`: the numbers that are in the file, and one sentence where it holds something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, SettingsError


def table(tmp_path: Path, text: str, *arguments: str) -> DataSplits:
    (tmp_path / "t.csv").write_text(text)
    return resolve(f"csv:{tmp_path / 't.csv'}", root="", arguments=arguments)


@pytest.mark.parametrize("head", ["", "a,b,kind\n"])
def test_a_table_of_classes(tmp_path: Path, head: str):
    data = table(tmp_path, f"{head}1,2.5,0\n-3,4e1,1\n\n5,6,0\n")
    assert data.train.inputs.tolist() == [[1, 2.5], [-3, 40], [5, 6]]
    assert data.train.inputs.dtype == torch.float64
    assert data.train.targets.tolist() == [0, 1, 0]


def test_other_targets(tmp_path: Path):
    words = table(tmp_path, "1,dog\n2,cat\n3,dog\n")
    assert words.train.targets.tolist() == [1, 0, 1]
    values = table(tmp_path, "x,y\n1,0.5\n2,1\n")
    assert values.train.targets.tolist() == [[0.5], [1]]
    for target in ("kind", "0"):
        first = table(tmp_path, "kind,a,b\n1,2,3\n0,4,5\n", f"target={target}")
        assert (first.train.targets.tolist(), first.train.inputs.tolist()) == ([1, 0], [[2, 3], [4, 5]])
    (tmp_path / "more.csv").write_text("9,cat\n")
    both = table(tmp_path, "1,dog\n2,cat\n", f"test={tmp_path / 'more.csv'}")
    assert both.part("test").targets.tolist() == [0]


def test_the_first_row_is_a_sample_if_it_has_a_number(tmp_path: Path):
    assert len(table(tmp_path, "dog,1,2\ncat,3,4\n", "target=0").train) == 2
    assert len(table(tmp_path, "kind,a,b\ncat,3,4\ndog,1,2\n", "target=0").train) == 2
    quoted = table(tmp_path, '1,"two\nlines"\n2,one\n')
    assert quoted.train.targets.tolist() == [1, 0]
    assert table(tmp_path, "x,y\n1,2\n2,4\n", "values=True").train.targets.tolist() == [[2], [4]]
    ignored = resolve(f"csv:{tmp_path / 't.csv'}", root="", loss="ce:ignore_index=4")
    assert ignored.train.targets.tolist() == [2, -100]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", (), "is empty"),
        ("NA,1,0\n2,3,1\n", (), "Line 1 of .* has 'NA'"),
        ("1,2\n\n\nx,2\n", (), "Line 4 of .* has 'x'"),
        ("1,2\n3\n", (), "Line 2 of .* has 1 cells, not 2"),
        ("a,b\n1,2\nx,2\n", (), "Line 3 of .* has 'x', which is no number"),
        ("1\n2\n", (), "has one column"),
        ("a,b\n1,2\n", ("target=c",), "no column 'c'"),
        ("a,b\n1,2\n", ("target=7",), "has 2 columns, so there is no column 7"),
        ("1,nan\n2,1\n", (), "NaN"),
        ("1,-1\n2,1\n", (), "class -1"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, arguments: tuple[str, ...], words: str):
    with pytest.raises(InputError, match=words):
        table(tmp_path, text, *arguments)


@pytest.mark.parametrize(
    ("text", "more", "words", "hint"),
    [
        ("1,dog\n2,3\n", None, "'dog' and '3'", "only words or only numbers"),
        ("1,3\n2,dog\n", None, "'dog' and '3'", "only words or only numbers"),
        ("1,dog\n2,nan\n", None, "'dog' and 'nan'", "only words or only numbers"),
        ("1,0.5\n2,\n", None, "'' and '0.5'", "only words or only numbers"),
        ("1,0\n2,1\n", "9,dog\n", "'dog' and '0'", "only words or only numbers"),
        ("1,dog\n2,cat\n", "9,1\n", "'cat' and '1'", "only words or only numbers"),
        ("0,1,kind\n3,4,0\n5,6,1\n", None, "'kind' and '0'", "the name of the column, add --data-arg target=kind"),
    ],
)
@pytest.mark.parametrize("loss", ["ce", "ce:ignore_index=-1"])
def test_targets_that_are_words_and_numbers(tmp_path: Path, text: str, more: str | None, words: str, hint: str, loss: str):
    """They would be classes of one kind only if the numbers were words, which for integers is another numbering."""
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "more.csv").write_text(more or "")
    arguments = (f"test={tmp_path / 'more.csv'}",) if more else ()
    with pytest.raises(InputError, match=f"targets in .* contain words and numbers, such as {words}") as caught:
        resolve(f"csv:{tmp_path / 't.csv'}", root="", arguments=arguments, loss=loss)
    assert hint in caught.value.hint


def test_the_name_of_the_column_of_targets_ends_the_mix(tmp_path: Path):
    data = table(tmp_path, "0,1,kind\n3,4,0\n5,6,1\n", "target=kind")
    assert (data.train.inputs.tolist(), data.train.targets.tolist()) == ([[3, 4], [5, 6]], [0, 1])


def test_a_long_text_is_cut_into_pieces(tmp_path: Path):
    np.save(tmp_path / "t.npy", np.arange(11, dtype=np.uint16))
    data = resolve(f"tokens:{tmp_path / 't.npy'}", root="", arguments=("length=4",))
    assert data.train.inputs.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert data.train.targets.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert data.preprocessing == "tokens, targets are the next tokens"
    with pytest.raises(InputError, match="11 tokens, fewer than one piece"):
        resolve(f"tokens:{tmp_path / 't.npy'}", root="")


def test_several_texts(tmp_path: Path):
    texts = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "t.npz", train=texts, test=texts + 1)
    data = resolve(f"tokens:{tmp_path / 't.npz'}", root="")
    assert data.train.inputs.tolist() == [[0, 1], [3, 4]]
    assert data.part("test").targets.tolist() == [[2, 3], [5, 6]]


@pytest.mark.parametrize(
    "arrays",
    [{"test": 2}, {"train": 9, "test": 2}, {"test": 2, "x": 9}, {"x": 2}, {"train": 2}],
    ids=lambda given: "-".join(given),
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_the_test_texts_of_a_second_npz_file(tmp_path: Path, arrays: dict[str, int], kind: str):
    texts = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "t.npy", texts)
    np.savez(tmp_path / "t.npz", train=texts, test=texts + 5)
    np.savez(tmp_path / "more.npz", **{name: texts + added for name, added in arrays.items()})
    data = resolve(f"tokens:{tmp_path / 't'}.{kind}", root="", arguments=(f"test={tmp_path / 'more.npz'}",))
    assert data.train.inputs.tolist() == [[0, 1], [3, 4]]
    assert data.part("test").inputs.tolist() == [[2, 3], [5, 6]]
    assert data.num_classes == 8


@pytest.mark.parametrize("names", [("train", "val"), ()])
def test_a_second_npz_file_without_test_texts(tmp_path: Path, names: tuple[str, ...]):
    texts = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "t.npy", texts)
    np.savez(tmp_path / "more.npz", **dict.fromkeys(names, texts))
    with pytest.raises(InputError, match="more.npz' has no array 'test'") as caught:
        resolve(f"tokens:{tmp_path / 't.npy'}", root="", arguments=(f"test={tmp_path / 'more.npz'}",))
    assert caught.value.hint == "Store the test texts as test, or as the only array."


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(9), "type float64"),
        (np.ones((2, 2, 2), int), "shape"),
        (np.array([[1], [2]]), "one token"),
        (np.array([3, -1, 2]), "-1"),
    ],
)
def test_texts_that_are_none(tmp_path: Path, array: np.ndarray, words: str):
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(InputError, match=words):
        resolve(f"tokens:{tmp_path / 't.npy'}", root="", arguments=("length=1",))


X, Y = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    "content",
    [(X, Y), {"train": (X, Y), "test": (X, Y)}, {"x_train": X, "y_train": Y}, {"x_train": X.bfloat16(), "y_train": Y}],
)
def test_tensors(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "d.pt")
    data = resolve(f"pt:{tmp_path / 'd.pt'}", root="")
    assert torch.equal(data.train.inputs, X)
    assert torch.equal(data.train.targets, Y)


@pytest.mark.parametrize("content", [X, {"x_train": X}, {"test": (X, Y)}, {"weights": X}, (X, "y"), "x"])
def test_files_that_hold_no_data(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "d.pt")
    with pytest.raises(InputError, match="does not contain tensors|holds no training data"):
        resolve(f"pt:{tmp_path / 'd.pt'}", root="")


@pytest.mark.parametrize("spec", ["csv:gone.csv", "tokens:gone.npy", "pt:gone.pt"])
def test_missing_files_and_names_without_a_scheme(tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="There is no file"):
        resolve(spec, root="")
    with pytest.raises(SettingsError, match="no data set called") as caught:
        resolve(spec.partition(":")[2], root="")
    assert caught.value.hint == f"Did you mean {spec}?"
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        resolve(f"{spec.partition(':')[0]}:folder", root="")


def test_only_images_take_a_transform(tmp_path: Path):
    (tmp_path / "t.csv").write_text("1,0\n2,1\n")
    with pytest.raises(SettingsError, match="take no transform"):
        resolve(f"csv:{tmp_path / 't.csv'}", root="", transform="none")


def test_a_sparse_tensor_is_no_array(tmp_path: Path):
    torch.save((X.to_sparse(), Y), tmp_path / "d.pt")
    with pytest.raises(InputError, match="a tensor that cannot be converted to an array: "):
        resolve(f"pt:{tmp_path / 'd.pt'}", root="")


def test_a_second_file_that_changed_is_read_again(tmp_path: Path):
    (tmp_path / "more.csv").write_text("9,1\n")
    assert table(tmp_path, "1,0\n2,1\n", f"test={tmp_path / 'more.csv'}").part("test").inputs.tolist() == [[9]]
    (tmp_path / "more.csv").write_text("10,1\n")
    again = resolve(f"csv:{tmp_path / 't.csv'}", root="", arguments=(f"test={tmp_path / 'more.csv'}",))
    assert again.part("test").inputs.tolist() == [[10]]
