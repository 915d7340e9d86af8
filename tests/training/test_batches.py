"""Orders of samples; an epoch that sees every sample once is in test_plan.py."""

from __future__ import annotations

import torch

from sharpcli.training.batches import Batches


def test_the_order_that_is_drawn_once_is_that_of_every_epoch():
    batches = Batches(50, 10, seed=0, shuffle="once")
    first, second = (torch.cat([batches.indices(update) for update in epoch]) for epoch in (range(5), range(5, 10)))
    assert torch.equal(first, second)
    assert torch.equal(first, batches.mixed())
    assert sorted(first.tolist()) == list(range(50))


def test_draws_with_replacement_repeat_samples_and_depend_on_the_update_alone():
    batches = Batches(50, 40, seed=0, shuffle="replacement")
    draws = [batches.indices(update) for update in (0, 1, 0)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert all(len(draw) == 40 > len(set(draw.tolist())) and 0 <= int(draw.min()) <= int(draw.max()) < 50 for draw in draws)


def test_small_batches_take_one_copy_an_epoch_in_turn():
    batches = Batches(20, 10, seed=0, copies=3)
    seen = [sorted(torch.cat([batches.indices(2 * epoch), batches.indices(2 * epoch + 1)]).tolist()) for epoch in range(4)]
    assert seen == [list(range(20 * copy, 20 * copy + 20)) for copy in (0, 1, 2, 0)]


def test_a_full_batch_takes_every_copy_and_mixes_them_only_where_blocks_matter():
    assert Batches(20, 20, seed=0).indices(0) is None
    assert Batches(20, 20, seed=0, copies=2).indices(0).tolist() == list(range(40))
    mixed = Batches(20, 20, seed=0, copies=2, in_blocks=True).indices(0).tolist()
    assert sorted(mixed) == list(range(40)) != mixed


def test_another_seed_is_another_order():
    assert not torch.equal(Batches(50, 10, seed=0).indices(0), Batches(50, 10, seed=1).indices(0))
