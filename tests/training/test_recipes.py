"""Recipes of papers: that they are data which fits, and that what they set is what is run."""

from __future__ import annotations

import math

import pytest

from sharpcli.errors import SettingsError
from sharpcli.settings import TrainSettings
from sharpcli.training.plan import TrainingPlan, make_plan
from sharpcli.training.recipes import names, recipe_named

CIFAR = 50_000


def planned(name: str, *, num_train: int = CIFAR, **own: object) -> TrainingPlan:
    settings = recipe_named(name).fill(TrainSettings(recipe=(name,), **own))
    return make_plan(settings.mode[0], settings, num_train, chunk_size=1000, has_batch_norm=True)


@pytest.mark.parametrize("name", names())
def test_a_recipe_is_complete(name: str):
    found = recipe_named(name)
    assert found.summary
    assert found.source
    assert found.where
    assert found.words().startswith("--mode ")
    assert planned(name).updates > 0


@pytest.mark.parametrize("name", names())
def test_the_words_of_a_recipe_name_every_setting_once(name: str):
    flags = [word[2:].replace("-", "_") for word in recipe_named(name).words().split() if word.startswith("--")]
    assert flags == list(recipe_named(name).values)
    assert "(" not in recipe_named(name).words()


def test_an_option_overrides_and_takes_back_what_excludes_it():
    assert planned("keskar-sb", lr=0.5).lr == 0.5
    assert planned("geiping-fb", epochs=7.0).updates == 7
    assert planned("hoffer-ra", steps=9).updates == 9
    assert planned("hoffer-ra", epochs=20.0).updates == pytest.approx(planned("hoffer-sb", epochs=20.0).updates, rel=0.07)
    assert planned("sam", asam=1.0).sam == 0
    assert planned("asam").sam == 0
    assert planned("keskar-sb", mode="fullbatch").batch_size == CIFAR
    assert planned("sam").augment == ("crop", "flip")
    assert planned("sam", augment="none").augment == ()
    assert planned("nitanda-tail", average="none").average == ()


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(SettingsError) as told:
        recipe_named("geiping-klip")
    assert "geiping-clip" in told.value.hint


def test_the_schedule_of_geiping_ends_where_it_was_cut():
    """papers.md 3.1: 3,000 of 4,000 steps of the cosine; 0.109 of 0.4 and 0.219 of 0.8 are left, by simulation."""
    for name, peak, end in (("geiping-longer", 0.4, 0.109), ("geiping-reg", 0.8, 0.219)):
        recipe = planned(name)
        assert recipe.updates == 3000
        assert recipe.learning_rate(399) == pytest.approx(peak)
        assert recipe.learning_rate(2999) == pytest.approx(end, abs=5e-4)
        assert max(map(recipe.learning_rate, range(3000))) == pytest.approx(peak)


def test_no_update_is_made_at_rate_zero():
    """The reference wrapper runs its first epoch at rate 0; ours begins with one part of the warm-up."""
    for name in names():
        recipe = planned(name)
        assert all(recipe.learning_rate(update) > 0 for update in range(0, recipe.updates, max(1, recipe.updates // 50)))


def test_blocks_of_geiping():
    assert [planned(name).chunk_size for name in ("geiping-fb", "geiping-reg", "geiping-strong")] == [128, 128, 32]
    assert [planned(name).shuffle for name in ("geiping-strong", "geiping-shuffle")] == ["once", "epoch"]
    assert planned("geiping-fixed").augment_copies == 10
    assert [planned(name).clip for name in ("geiping-longer", "geiping-clip")] == [0, 0.25]


def test_the_schedule_of_hoffer_point_by_point():
    recipe = planned("hoffer-sb")
    epoch = math.ceil(CIFAR / 128)
    rates = [recipe.learning_rate(at * epoch) for at in (0, 80, 81, 121, 122, 163, 164, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    assert recipe.learning_rate(81 * epoch - 1) == pytest.approx(0.1)


def test_the_columns_of_hoffer_add_up():
    small, large, scaled, ghost, adapted = (planned(f"hoffer-{name}") for name in ("sb", "lb", "lr", "gbn", "ra"))
    assert (large.batch_size, large.lr, large.chunk_size) == (4096, 0.1, 4096)
    assert scaled.lr == pytest.approx(0.1 * math.sqrt(32))
    assert ghost.chunk_size == 128
    assert ghost.updates == large.updates == 200 * math.ceil(CIFAR / 4096)
    assert adapted.updates == pytest.approx(small.updates, rel=0.07)  # 32 times the epochs, whose last batch is ragged.
    drop = next(update for update in range(adapted.updates) if adapted.learning_rate(update) < 0.9 * adapted.lr)
    assert drop / adapted.updates == pytest.approx(81 / 200, rel=1e-3)
    assert planned("hoffer-noise").example_noise ** 2 == pytest.approx(4096 / 128 - 1, rel=1e-3)


def test_keskar_differs_in_the_batch_alone():
    small, large = planned("keskar-sb").to_dict(), planned("keskar-lb").to_dict()
    differing = {key for key in small if small[key] != large[key]}
    assert differing == {"mode", "batch_size", "chunk_size", "updates", "updates_per_epoch", "schedule_updates", "eval_every"}
    assert large["batch_size"] == CIFAR // 10
    assert small["stop_train_loss"] == large["stop_train_loss"]


def test_the_averaging_of_swa_begins_after_its_rate_has_fallen():
    recipe = planned("nitanda-swa")
    rates = [recipe.learning_rate(update) / recipe.lr for update in range(recipe.updates)]
    assert rates[0] == rates[int(0.37 * len(rates))] == 1
    assert rates[int(0.68 * len(rates)) :] == pytest.approx([0.5] * (len(rates) - int(0.68 * len(rates))))
    assert recipe.average == ("swa:0.75",)
