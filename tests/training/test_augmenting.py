"""Augmentations against what they say they do, and that what is drawn once stays as it was drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from sharpcli import plugins
from sharpcli.training.augmentations import crop, flip, rotate, shift
from sharpcli.training.augmenting import Augmentation
from sharpcli.training.batches import Batches

NAMES = plugins.names("training/augmentations")


def pictures(count: int = 6, size: tuple[int, int] = (12, 10)) -> torch.Tensor:
    return torch.randn(count, 2, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_the_contract(name: str):
    """Shapes and types stay, a sample's change depends on its own numbers alone, and the original is left alone."""
    plug_in = plugins.load("training/augmentations", name)
    images = pictures()
    before = images.clone()
    drawn = plug_in.draw(6, torch.Generator().manual_seed(0))
    changed = plug_in.apply(images, drawn)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)
    for place in range(6):
        one = plug_in.apply(images[place : place + 1], drawn[place : place + 1])
        torch.testing.assert_close(one[0], changed[place], rtol=0, atol=1e-6)
    assert torch.equal(drawn, plug_in.draw(6, torch.Generator().manual_seed(0)))


def test_flip_mirrors_half_of_the_images():
    images, drawn = pictures(), torch.tensor([[True], [False]] * 3)
    changed = flip.apply(images, drawn)
    assert torch.equal(changed[::2], images[::2].flip(3))
    assert torch.equal(changed[1::2], images[1::2])
    share = float(flip.draw(10_000, torch.Generator().manual_seed(0)).double().mean())
    assert abs(share - 0.5) < 4 * 0.5 / 100


def test_crop_moves_by_whole_pixels_up_to_four():
    images = pictures()
    drawn = torch.tensor([[0, 0], [4, 4], [8, 8], [4, 0], [2, 5], [0, 8]])
    changed = crop.apply(images, drawn)
    padded = functional.pad(images, (4, 4, 4, 4))
    for place, (row, column) in enumerate(drawn.tolist()):
        assert torch.equal(changed[place], padded[place, :, row : row + 12, column : column + 10])
    many = crop.draw(10_000, torch.Generator().manual_seed(0))
    assert sorted(set(many.flatten().tolist())) == list(range(9))


def test_shift_by_whole_pixels_is_a_shift():
    images = pictures()
    drawn = torch.tensor([[0.2, 0.0]] * 3 + [[0.0, -1 / 6]] * 3)  # 2 of 10 columns to the right; 2 of 12 rows up.
    changed = shift.apply(images, drawn)
    torch.testing.assert_close(changed[:3, :, :, 2:], images[:3, :, :, :-2], rtol=0, atol=1e-5)
    assert float(changed[:3, :, :, :2].abs().max()) < 1e-5
    torch.testing.assert_close(changed[3:, :, :-2], images[3:, :, 2:], rtol=0, atol=1e-5)
    assert float(shift.draw(10_000, torch.Generator().manual_seed(0)).abs().max()) <= 0.2


def test_rotate_turns_about_the_centre_also_where_images_are_not_square():
    images = pictures(size=(9, 9))
    quarter = torch.full((6, 1), math.pi / 2)
    torch.testing.assert_close(rotate.apply(images, quarter), images.rot90(1, (2, 3)), rtol=0, atol=1e-5)
    wide = torch.zeros(1, 1, 9, 17)
    wide[0, 0, 4, 12] = 1  # Four pixels to the right of the centre comes to stand four pixels above it.
    turned = rotate.apply(wide, torch.full((1, 1), math.pi / 2))
    assert float(turned[0, 0, 0, 8]) == pytest.approx(1, abs=1e-5)
    largest = float(rotate.draw(10_000, torch.Generator().manual_seed(0)).abs().max())
    assert 9.9 < math.degrees(largest) <= 10


def seen(batches: Batches, augmentation: Augmentation, images: torch.Tensor, update: int) -> dict[int, torch.Tensor]:
    """Return what each sample looks like in an update."""
    indices = batches.indices(update)
    chosen = torch.arange(len(images)) if indices is None else indices % len(images)
    changed = augmentation(images[chosen], augmentation.drawn(update, indices))
    return dict(zip(chosen.tolist(), changed, strict=True))


def test_what_is_drawn_anew_differs_from_pass_to_pass_and_not_from_run_to_run():
    images = pictures()
    batches, augmentation = Batches(6, 6, 0), Augmentation(("crop", "flip"), 6, 0, 0)
    first, second, again = (seen(batches, augmentation, images, update) for update in (0, 1, 0))
    assert any(not torch.equal(first[place], second[place]) for place in range(6))
    assert all(torch.equal(first[place], again[place]) for place in range(6))


def test_fixed_copies_are_drawn_once():
    """Small batches take copy number (epoch mod copies), in any order of the samples."""
    images = pictures()
    batches, augmentation = Batches(6, 3, 0, copies=2), Augmentation(("crop",), 6, 2, 0)
    epochs = [seen(batches, augmentation, images, 2 * e) | seen(batches, augmentation, images, 2 * e + 1) for e in range(4)]
    for place in range(6):
        assert torch.equal(epochs[0][place], epochs[2][place])
        assert torch.equal(epochs[1][place], epochs[3][place])
    assert any(not torch.equal(epochs[0][place], epochs[1][place]) for place in range(6))


def test_a_full_batch_takes_every_copy():
    batches = Batches(6, 6, 0, copies=3)
    assert sorted(batches.indices(0).tolist()) == list(range(18))
    mixed = Batches(6, 6, 0, shuffle="once", copies=3, in_blocks=True)
    assert sorted(mixed.indices(0).tolist()) == list(range(18)) == sorted(mixed.indices(5).tolist())
    assert torch.equal(mixed.indices(0), mixed.indices(5))
    assert mixed.indices(0).tolist() != list(range(18))


def test_orders_of_small_batches():
    once, replaced = Batches(50, 20, 0, "once"), Batches(50, 20, 0, "replacement")
    first, second = ([once.indices(update).tolist() for update in some] for some in (range(3), range(3, 6)))
    assert first == second
    assert sorted(sum(first, [])) == list(range(50)) != sum(first, [])
    drawn = torch.cat([replaced.indices(update) for update in range(500)])
    counts = torch.bincount(drawn, minlength=50).double()
    assert abs(float(counts.mean()) - 200) < 1e-9
    assert float((counts - 200).abs().max()) < 5 * (200 * 49 / 50) ** 0.5
    assert any(len(set(replaced.indices(update).tolist())) < 20 for update in range(20))
