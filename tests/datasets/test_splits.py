"""What a data set promises once it is loaded."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.standardisation import channel_statistics, standardise
from sharpcli.errors import InputError


def split(count: int = 4, *, shape: tuple[int, ...] = (2,), high: int = 3) -> Split:
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, *shape, generator=generator)
    return Split(inputs, torch.randint(high, (count,), generator=generator))


def test_lengths_and_shape() -> None:
    data = DataSplits("toy", split(4, shape=(1, 2, 3)), split(2, shape=(1, 2, 3)), num_classes=3)
    assert (len(data.train), len(data.test), data.input_shape) == (4, 2, (1, 2, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)),
        (torch.tensor([[float("nan")]]), torch.tensor([0])),
        (torch.tensor([[float("inf")]]), torch.tensor([0])),
        (torch.zeros(1, 2), torch.tensor([[float("nan")]])),
        (torch.zeros(1, 2).half(), torch.tensor([0])),
        (torch.zeros(1, 2), torch.tensor([0.0])),
        (torch.zeros(1, 2), torch.tensor(0)),
        (torch.zeros(1, 2, dtype=torch.int32), torch.tensor([0])),
        (torch.zeros(1, 2), torch.tensor([[0]], dtype=torch.int32)),
    ],
)
def test_bad_splits(inputs: torch.Tensor, targets: torch.Tensor) -> None:
    with pytest.raises(InputError) as caught:
        Split(inputs, targets)
    assert caught.value.hint


def test_splits_must_match() -> None:
    values = Split(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(InputError, match="shapes"):
        DataSplits("toy", split(), split(shape=(3,)), 3)
    with pytest.raises(InputError, match="outside 0 to 0"):
        DataSplits("toy", split(), split(), 1)
    with pytest.raises(InputError, match="outside"):
        DataSplits("toy", split(), Split(torch.zeros(1, 2), torch.tensor([-1])), 3)
    with pytest.raises(InputError, match="one split"):
        DataSplits("toy", split(), values, 3)
    with pytest.raises(InputError, match="3 columns, not 2"):
        DataSplits("toy", values, values, 2)
    assert DataSplits("toy", values, values, 3).num_classes == 3


def test_tokens_with_targets_of_their_own() -> None:
    def texts(targets: list[list[int]], kind: torch.dtype = torch.int64) -> Split:
        return Split(torch.zeros(len(targets), 2, dtype=kind), torch.tensor(targets))

    data = DataSplits("toy", texts([[0, 2], [-100, 1]]), texts([[-100, 1]]), 3)
    assert (data.input_shape, data.num_classes) == ((2,), 3)
    with pytest.raises(InputError, match="outside 0 to 1"):
        DataSplits("toy", texts([[0, 2]]), texts([[0, 1]]), 2)
    with pytest.raises(InputError, match="outside"):
        DataSplits("toy", texts([[0, 2]]), texts([[0, -1]]), 3)
    with pytest.raises(InputError, match="test target is ignored"):
        DataSplits("toy", texts([[0, 2]]), texts([[-100, -100]]), 3)
    with pytest.raises(InputError, match="tokens"):
        DataSplits("toy", texts([[0, 2]]), texts([[0, 1]], torch.float32), 3)
    with pytest.raises(InputError, match="targets have shapes"):
        DataSplits("toy", texts([[0, 2]]), texts([[0, 1, 1]]), 3)


def test_fingerprint_sees_every_number_and_shape() -> None:
    def fingerprint(train: Split, test: Split) -> str:
        return DataSplits("toy", train, test, 3).fingerprint()

    whole = fingerprint(split(4), split(5))
    assert whole == fingerprint(split(4), split(5))
    assert len(whole) == 64
    assert whole != fingerprint(split(5), split(4))
    for name in ("inputs", "targets"):
        changed = getattr(split(4), name).clone()
        changed.view(-1)[0] = 1 - changed.view(-1)[0].sign()
        assert whole != fingerprint(dataclasses.replace(split(4), **{name: changed}), split(5))
    reshaped = [Split(part.inputs.view(-1, 1, 2), part.targets) for part in (split(4), split(5))]
    assert whole != fingerprint(*reshaped)


def test_standardised_bytes_have_mean_zero_and_deviation_one() -> None:
    images = torch.randint(256, (50, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics([images])
    torch.testing.assert_close(torch.tensor(mean), images.float().mean(dim=(0, 2, 3)) / 255)
    pixels = standardise(images, mean, std)
    torch.testing.assert_close(pixels.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.std(dim=(0, 2, 3), correction=0), torch.ones(3))
    expected = (images[1, 2, 3, 1].item() / 255 - mean[2]) / std[2]
    assert pixels[1, 2, 3, 1].item() == pytest.approx(expected, abs=1e-6)
    assert standardise(images.permute(0, 1, 3, 2), mean, std).is_contiguous()


def test_constant_channel_becomes_zero() -> None:
    images = torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)
    assert standardise(images, *channel_statistics([images])).abs().max() < 1e-6
