"""Texts of different lengths: their loss and eigenvalues are those of each text alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import sharpcli
from sharpcli.datasets.user_data import splits_of
from sharpcli.errors import InputError
from sharpcli.inputs import InputSource

LENGTHS = (3, 7, 5, 1, 7, 2)


def texts(lengths: tuple[int, ...] = LENGTHS, *, labelled: bool = True) -> list[dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, 20, (length,), generator=random) for length in lengths]
    label = {"labels": torch.tensor(1)} if labelled else {}
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), **label} for row in rows]


class Texts(Dataset[dict[str, Tensor]]):
    def __init__(self, *, labelled: bool = True) -> None:
        self.texts = texts(labelled=labelled)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.texts[position]


def collate(samples: list[dict[str, Tensor]], *, fill: int = 19, at_start: bool = False) -> dict[str, Tensor]:
    """Pad to the longest text of the batch, as collators of Hugging Face do."""
    length = max(len(sample["input_ids"]) for sample in samples)

    def filled(row: Tensor, value: int) -> Tensor:
        if not row.ndim:
            return row
        rest = torch.full((length - len(row),), value)
        return torch.cat([rest, row] if at_start else [row, rest])

    return {
        name: torch.stack([filled(sample[name], fill if name == "input_ids" else 0) for sample in samples])
        for name in samples[0]
    }


def loader(batch: int, **options: Any) -> DataLoader[Any]:
    labelled = options.pop("labelled", True)
    return DataLoader(Texts(labelled=labelled), batch, collate_fn=lambda samples: collate(samples, **options))


@pytest.mark.parametrize("batch", [1, 2, 6])
def test_all_are_padded_at_their_end_to_the_longest(batch: int):
    data = splits_of({"train": loader(batch), "test": [collate(texts((9, 4)))]}, "here")
    assert data.preprocessing == "as here gives them, texts padded to 9 tokens"
    inputs = data.train.inputs
    assert isinstance(inputs, dict)
    assert inputs["input_ids"].shape == (6, 9)
    assert inputs["attention_mask"].sum(1).tolist() == list(LENGTHS)
    for row, (ids, text) in enumerate(zip(inputs["input_ids"], texts(), strict=True)):
        assert torch.equal(ids[: LENGTHS[row]], text["input_ids"])
        # The token that the collator uses. There is none to be seen in training batches of one text.
        assert set(ids[LENGTHS[row] :].tolist()) == {19}
    assert data.test is not None
    assert data.test.targets.tolist() == [1, 1]


def test_next_tokens_of_the_padding_are_no_targets():
    data = splits_of(loader(2, labelled=False), "here")
    assert data.preprocessing.endswith("texts padded to 7 tokens, targets are the next tokens")
    assert (data.train.targets >= 0).sum(1).tolist() == [length - 1 for length in LENGTHS]
    assert data.train.targets.shape == (6, 6)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int8, torch.int64])
def test_labels_of_tokens_are_padded_with_what_is_ignored(kind: torch.dtype):
    """Also if their type cannot hold -100."""
    batches = [collate(texts(lengths)) for lengths in ((3, 3), (5, 5))]
    for batch in batches:
        batch["labels"] = (batch["input_ids"] % 2).to(kind)
    targets = splits_of(batches, "here").train.targets
    assert targets[:2, 3:].tolist() == [[-100, -100]] * 2
    assert set(targets[2:].flatten().tolist()) <= {0, 1}


def test_what_is_read_again_is_padded_alike(monkeypatch: pytest.MonkeyPatch):
    held = splits_of(loader(2), "here").train
    monkeypatch.setattr("sharpcli.memory.available_memory", lambda: 100)
    read = splits_of(loader(2), "here").train
    assert isinstance(read.inputs, InputSource)
    assert isinstance(held.inputs, dict)
    order = torch.tensor([3, 0, 2])
    again = read.inputs[order]
    assert isinstance(again, dict)
    assert all(torch.equal(again[name], part[order]) for name, part in held.inputs.items())


def test_texts_of_one_length_stay_as_they_are():
    data = splits_of([collate(texts((5, 5)))], "here")
    assert "padded" not in data.preprocessing
    assert torch.equal(data.train.inputs, collate(texts((5, 5)))["input_ids"])  # type: ignore[arg-type]


def test_what_cannot_be_padded_is_refused():
    with pytest.raises(InputError, match="padded at the start"):
        splits_of(loader(2, at_start=True), "here")
    unmasked = [{"input_ids": text["input_ids"][None], "labels": text["labels"][None]} for text in texts()]
    with pytest.raises(InputError, match="different shapes"):
        splits_of(unmasked, "here")
    for target in (torch.rand, lambda *shape: torch.ones(*shape, 2)):
        by_token = [collate(texts(lengths)) for lengths in ((3, 4), (6, 5))]
        for batch in by_token:
            batch["labels"] = target(*batch["input_ids"].shape)
        with pytest.raises(InputError, match="floating-point target for each token|Targets of 'here' have different shapes"):
            splits_of(by_token, "here")
    pictures = [{"x": torch.ones(2, 3, size, size), "labels": torch.tensor([0, 1])} for size in (4, 5)]
    with pytest.raises(InputError, match="different shapes"):
        splits_of(pictures, "here")


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=20, max_position_embeddings=16, num_labels=3, attn_implementation="eager", **size)
    return BertForSequenceClassification(config).double()


def test_loss_and_eigenvalue_are_those_of_each_text_alone():
    """The twin passes each text by itself, without padding; its eigenvalue comes from power iteration."""
    model = bert().eval()
    result = sharpcli.hessian(model, loader(2), topk=1, dtype="float64", tol=1e-8)
    losses = [nn.functional.cross_entropy(model(text["input_ids"][None]).logits, text["labels"][None]) for text in texts()]
    loss = torch.stack(losses).mean()
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    everything = list(model.parameters())
    slopes = torch.autograd.grad(loss, everything, create_graph=True, allow_unused=True)
    used = [(part, slope) for part, slope in zip(everything, slopes, strict=True) if slope is not None]
    gradient = torch.cat([slope.flatten() for _, slope in used])
    vector, size = torch.randn(len(gradient), generator=torch.Generator().manual_seed(1), dtype=torch.float64), 0.0
    for _ in range(200):
        product = torch.autograd.grad(gradient @ vector, [part for part, _ in used], retain_graph=True)
        moved = torch.cat([part.flatten() for part in product]) + vector  # The shift keeps the most negative one below.
        size = float(moved.norm())
        vector = moved / size
    assert result.lambda_max == pytest.approx(size - 1, rel=1e-6)
