import pytest

from sharpcli.errors import SettingsError
from sharpcli.settings import TrainSettings
from sharpcli.training.batches import Batches
from sharpcli.training.plan import TrainingPlan, make_plan


def _plan(mode: str, num_train: int = 10_000, *, has_batch_norm: bool = False, **chosen: object) -> TrainingPlan:
    settings = TrainSettings(mode=(mode,), **chosen)
    return make_plan(mode, settings, num_train, chunk_size=1000, has_batch_norm=has_batch_norm)


def test_large_batch_is_a_tenth_and_full_batch_all_of_the_training_set():
    assert _plan("sgd").batch_size == 64
    assert _plan("largebatch").batch_size == 1000
    assert _plan("largebatch", 12_345).batch_size == 1234
    full = _plan("fullbatch")
    assert (full.batch_size, full.updates_per_epoch, full.chunk_size) == (10_000, 1, 1000)


def test_an_epoch_counts_the_ragged_last_batch():
    assert _plan("sgd", 100, batch_size=30, epochs=2).updates == 8


def test_what_the_user_says_overrides_the_mode():
    plan = _plan("fullbatch", lr=0.7, steps=9, clip=0, optimizer="adam", momentum=0.5, chunk_size=50)
    assert (plan.lr, plan.updates, plan.clip, plan.optimizer, plan.chunk_size) == (0.7, 9, 0, "adam", 50)


def test_learning_rates_scale_with_the_batch():
    assert _plan("largebatch", lr=0.1, lr_scale="linear").lr == pytest.approx(0.1 * 1000 / 64)
    assert _plan("largebatch", lr=0.1, lr_scale="sqrt").lr == pytest.approx(0.1 * (1000 / 64) ** 0.5)
    assert _plan("largebatch", lr=0.1).lr == 0.1


def test_schedules():
    cosine = _plan("fullbatch", steps=100, warmup=0.1, lr=1.0)
    assert [cosine.learning_rate(step) for step in (0, 9, 10)] == pytest.approx([0.1, 1.0, 1.0])
    assert cosine.learning_rate(55) == pytest.approx(0.5)
    assert 0 < cosine.learning_rate(99) < 1e-3
    step = _plan("fullbatch", steps=100, warmup=0, lr=1.0, schedule="step")
    assert [step.learning_rate(at) for at in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert _plan("fullbatch", steps=100, warmup=0, lr=1.0, schedule="constant").learning_rate(99) == 1


def test_with_batch_norm_the_block_is_part_of_the_method():
    assert _plan("sgd", has_batch_norm=True, batch_size=2000).chunk_size == 2000
    assert _plan("fullbatch", has_batch_norm=True).chunk_size == 128
    assert _plan("fullbatch", has_batch_norm=True, ghost_bn=32).chunk_size == 32
    assert _plan("sgd", has_batch_norm=True, batch_size=2000, ghost_bn=128).chunk_size == 128
    with pytest.raises(SettingsError, match="ghost_bn"):
        _plan("sgd", has_batch_norm=True, chunk_size=32)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(SettingsError, match="batch_size=20000"):
        _plan("sgd", batch_size=20_000)


def test_an_epoch_sees_every_sample_once_and_the_next_in_another_order():
    batches = Batches(num_samples=103, batch_size=20, seed=0)
    first, second = ([batches.indices(update).tolist() for update in epoch] for epoch in (range(6), range(6, 12)))
    assert [len(batch) for batch in first] == [20, 20, 20, 20, 20, 3]
    assert sorted(sum(first, [])) == list(range(103)) == sorted(sum(second, []))
    assert first != second


def test_the_batch_of_an_update_does_not_depend_on_those_before():
    going, jumping = (Batches(num_samples=50, batch_size=7, seed=3) for _ in range(2))
    along = [going.indices(update).tolist() for update in range(20)]
    assert jumping.indices(19).tolist() == along[19]
    assert jumping.indices(2).tolist() == along[2]


def test_a_full_batch_is_in_order():
    assert Batches(num_samples=50, batch_size=50, seed=0).indices(3) is None


def test_a_block_of_one_sample_is_refused_with_batch_norm():
    with pytest.raises(SettingsError, match="block of one sample"):
        _plan("fullbatch", 129, has_batch_norm=True, ghost_bn=1)
    assert _plan("fullbatch", 129, has_batch_norm=True).chunk_size == 128  # The one left over joins the block before.
    with pytest.raises(SettingsError, match="block of one sample"):
        _plan("sgd", 65, has_batch_norm=True)
    assert _plan("sgd", 65).batch_size == 64
