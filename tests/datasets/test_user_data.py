"""Data from the user's code: every form gives the tensors that it holds, and what is none is described."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharpcli.code_specs import data_is_code
from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import InputSource

CODE = """
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
x = torch.arange(40.0).reshape(10, 4); y = torch.arange(10) % 3
u, v = x[:6] + 1, y[:6]
ids = torch.arange(20).reshape(4, 5)

class Maps(Dataset):
    def __len__(self): return 10
    def __getitem__(self, i): return x[i].numpy(), int(y[i])

class Flows(IterableDataset):
    def __iter__(self): return iter([(x[i], y[i]) for i in range(10)])

class Endless(IterableDataset):
    def __iter__(self):
        while True: yield x[0].repeat(1000), 0

class Words(Dataset):
    def __init__(self, **more): self.more = more
    def __len__(self): return 10
    def __getitem__(self, i): return {"inputs": x[i], "labels": y[i], **{k: f[i] for k, f in self.more.items()}}

class Module:
    def setup(self, stage): self.ready = stage
    def train_dataloader(self): assert self.ready == "fit"; return DataLoader(TensorDataset(x, y), 4, shuffle=True)
    def val_dataloader(self): return [DataLoader(TensorDataset(u, v), 4)]

tensors = (x, y)
def arrays(): return x.numpy(), y.numpy()
def data_set(): return TensorDataset(x, y)
def maps(again=False): return Maps()
def subset(): return torch.utils.data.Subset(Maps(), [8, 1, 6])
def endless(): return Endless()
def flows(): return Flows()
def samples(): return [(x[i], int(y[i])) for i in range(10)]
def scalars(): return [(x[i], y[i]) for i in range(10)]
def records(): return [{"x": x[i], "label": int(y[i]), "name": str(i)} for i in range(10)]
def batches(): return [(x[:7], y[:7]), (x[7:], y[7:])]
def shuffled(): return DataLoader(TensorDataset(x, y), 3, shuffle=True, drop_last=True)
def words(): return Words(attention_mask=torch.ones(10, 4))
def both(): return TensorDataset(x, y), TensorDataset(u, v)
def named(): return {"train": (x, y), "validation": DataLoader(TensorDataset(u, v))}
def keras(): return {"x_train": x.numpy(), "y_train": y.numpy(), "x_test": u.numpy(), "y_test": v.numpy()}
def module(): return Module()
def sized(count=10): return x[:count], y[:count]
def halves(): return x.half(), y
def values(): return x, x[:, :2]
def column(): return x, x[:, 0]
def text(): return [{"input_ids": ids, "attention_mask": torch.ones(4, 5)}]
def masked_text(): return [{"input_ids": ids, "attention_mask": (ids < 9).long()}]
def labelled(): return [{"input_ids": ids, "labels": ids.clone()}]
def classified(): return [{"input_ids": ids, "labels": torch.tensor([0, 1, 0, 1])}]

def yields():
    for start in (0, 4, 8): yield x[start : start + 4], y[start : start + 4]
def partly(): return [{"input_ids": ids, "labels": ids.clone()}, {"input_ids": ids, "labels": torch.full_like(ids, -100)}]
def padded(): return x, torch.where(y == 2, -1, y)

def nothing(): return None
def random(): return [(torch.randn(4, 3), torch.zeros(4, dtype=torch.long)) for _ in range(2)] if 0 else Noise()
class Noise(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return torch.randn(3), 0
def masked(): return [{"input_ids": ids, "labels": y[:4], "attention_mask": (ids < 9).long()}]
def triple(): return [(x, y, y)]
def named_triple(): return [{"x": x, "weight": x[:, 0], "idx": torch.arange(10), "label": y}]
def pairs(): return [((x, y), y)]
def half_named(): return {"input_ids": ids, "attention_mask": (ids < 9).long()}, y[:4]
def bool_mask(): return [{"x": x, "mask": x > 9, "y": y}]
def not_finite(): return torch.full((10, 4), torch.nan), y
def half_shifted(): return {"train": text(), "test": classified()}
def strings(): return [(["a", "b"], y)]
def ragged(): return [(x[:2], y[:2]), (x[:2, :2], y[:2])]
def uneven(): return x, y[:9]
def coloured(): return torch.zeros(4, 3, 8, 8, dtype=torch.uint8) + 51, torch.tensor([0, 1, 0, 1])
def empty(): return []
def fails(): raise ValueError("no such file")
"""
X, Y = torch.arange(40.0).reshape(10, 4), torch.arange(10) % 3


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "mine.py"
    path.write_text(CODE)
    return path


def loaded(code: Path, name: str, *arguments: str, transform: str | None = None) -> DataSplits:
    return resolve(f"{code}:{name}", root="", arguments=arguments, transform=transform)


@pytest.mark.parametrize(
    "name",
    [
        "tensors",
        "arrays",
        "data_set",
        "maps",
        "flows",
        "samples",
        "scalars",
        "records",
        "batches",
        "shuffled",
        "words",
        "yields",
        "both",
        "named",
        "keras",
        "module",
    ],
)
def test_every_form_gives_the_same_samples_in_order(code: Path, name: str):
    data = loaded(code, name)
    assert torch.equal(data.train.inputs, X)
    assert torch.equal(data.train.targets, Y)
    assert data.num_classes == 3
    assert data.preprocessing == f"as {code}:{name} gives them"
    if name in ("both", "named", "keras", "module"):
        assert torch.equal(data.part("test").inputs, X[:6] + 1)
    else:
        with pytest.raises(InputError, match="have no test split"):
            data.part("test")


def test_arguments_go_to_the_function(code: Path):
    assert len(loaded(code, "sized", "count=4").train) == 4
    with pytest.raises(SettingsError, match="no option called 'cout'"):
        loaded(code, "sized", "cout=4")
    with pytest.raises(SettingsError, match="is not a function, so data_arg cannot be used"):
        loaded(code, "tensors", "count=4")


def test_numbers_of_other_types(code: Path):
    assert loaded(code, "halves").train.inputs.dtype == torch.float32
    assert loaded(code, "values").num_classes == 2
    assert loaded(code, "column").train.targets.shape == (10, 1)


def test_texts(code: Path):
    ids = torch.arange(20).reshape(4, 5)
    for name in ("text", "labelled"):
        data = loaded(code, name)
        assert torch.equal(data.train.inputs, ids[:, :-1])
        assert torch.equal(data.train.targets, ids[:, 1:])
        assert data.preprocessing.endswith("targets are the next tokens")
    data = loaded(code, "classified")
    assert torch.equal(data.train.inputs, ids)
    assert data.train.targets.tolist() == [0, 1, 0, 1]


def test_several_inputs_keep_their_names_or_positions(code: Path):
    ids = torch.arange(20).reshape(4, 5)
    for name in ("masked", "half_named"):
        inputs = loaded(code, name).train.inputs
        assert list(inputs) == ["input_ids", "attention_mask"]
        assert torch.equal(inputs["attention_mask"], (ids < 9).long())
    for name in ("triple", "pairs"):
        inputs = loaded(code, name).train.inputs
        assert isinstance(inputs, tuple)
        assert torch.equal(inputs[0], X)
        assert torch.equal(inputs[1], Y)
    inputs = loaded(code, "bool_mask").train.inputs
    assert torch.equal(inputs["mask"], X > 9)
    assert list(loaded(code, "named_triple").train.inputs) == ["x", "weight", "idx"]
    assert loaded(code, "triple").fingerprint() != loaded(code, "tensors").fingerprint()


def test_a_mask_belongs_to_the_text_it_is_for(code: Path):
    """Without labels the targets are the next tokens, but for those that the mask leaves out."""
    data = loaded(code, "masked_text")
    ids = torch.arange(20).reshape(4, 5)
    assert torch.equal(data.train.inputs["input_ids"], ids[:, :-1])
    assert torch.equal(data.train.inputs["attention_mask"], (ids < 9).long()[:, :-1])
    assert torch.equal(data.train.targets, torch.where(ids < 9, ids, -100)[:, 1:])


def test_a_data_set_without_room_is_read_again(code: Path, monkeypatch: pytest.MonkeyPatch):
    """The same data set of samples, held and read again: the same numbers, in any order."""
    held, known = loaded(code, "maps").train, loaded(code, "maps").fingerprint()
    monkeypatch.setattr("sharpcli.memory.available_memory", lambda: 100)
    code.touch()
    read = loaded(code, "maps", "again=True").train
    assert isinstance(read.inputs, InputSource)
    order = torch.tensor([7, 0, 3])
    assert torch.equal(read.inputs[order], held.inputs[order])
    assert torch.equal(read.chosen(order).inputs[slice(0, 2)], held.inputs[order[:2]])
    assert torch.equal(read.targets, held.targets)
    part = loaded(code, "subset").train
    assert isinstance(part.inputs, InputSource)
    assert torch.equal(part.inputs[:], held.inputs[torch.tensor([8, 1, 6])])
    assert torch.equal(part.targets, held.targets[torch.tensor([8, 1, 6])])
    assert loaded(code, "maps", "again=True").fingerprint() == known


def test_a_stream_without_end_is_refused(code: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sharpcli.host_memory.available_memory", lambda: 2**20)
    with pytest.raises(InputError, match="take 0.0 GiB, but only"):
        loaded(code, "endless")


def test_a_batch_that_is_ignored_is_shifted_like_the_others(code: Path):
    data = loaded(code, "partly")
    assert data.train.inputs.shape == data.train.targets.shape == (8, 4)
    assert int((data.train.targets == -100).sum()) == 16


def test_targets_that_the_loss_ignores(code: Path):
    data = resolve(f"{code}:padded", root="", loss="ce:ignore_index=-1")
    assert data.train.targets.tolist() == [-100 if label == 2 else label for label in Y.tolist()]
    with pytest.raises(InputError, match="classes run from -1"):
        loaded(code, "padded")


def test_images_of_bytes_need_a_transform(code: Path):
    with pytest.raises(InputError, match="what the model takes is not known") as caught:
        loaded(code, "coloured")
    assert "--transform" in caught.value.hint
    made = loaded(code, "coloured", transform="mean=0.5,std=0.1,crop=4")
    assert made.input_shape == (3, 4, 4)
    assert float(made.train.inputs.mean()) == pytest.approx(-3)
    with pytest.raises(InputError, match="no images of bytes"):
        loaded(code, "arrays", transform="none")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "returns a NoneType, which cannot be read as data"),
        ("random", "other numbers for the same samples"),
        ("not_finite", "contain NaN or infinity"),
        ("half_shifted", "targets equal the input tokens in only one of the two splits"),
        ("strings", "is a tuple of a list of a str, a str, torch.int64"),
        ("ragged", r"different shapes, \(2,\) and \(4,\)"),
        ("uneven", "10 inputs and 9 targets"),
        ("empty", "train data of .* are empty"),
        ("fails", "ValueError: no such file"),
        ("fail", "The module of '.*' has no such name"),
    ],
)
def test_what_is_no_data_is_described(code: Path, name: str, words: str):
    with pytest.raises(InputError, match=words):
        loaded(code, name)


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\ndef make(): return torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])\n")
    assert float(resolve(f"{path}:make", root="").train.inputs.sum()) == 0
    path.write_text("import torch\ndef make(): return torch.ones(4, 2), torch.tensor([0, 1, 0, 1])\n")
    assert float(resolve(f"{path}:make", root="").train.inputs.sum()) == 8


def test_a_misspelt_scheme_is_no_code():
    assert data_is_code("mine.py:make")
    assert data_is_code("pkg.mod:make")
    assert not any(data_is_code(spec) for spec in ("cifar10", "torchvision:CIFAR10", "folder:x", "npz:x", "folder:a/b"))
    for spec in ("foldr:pictures", "cifar:make"):
        with pytest.raises(SettingsError, match="no data set called"):
            resolve(spec, root="")
