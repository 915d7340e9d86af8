import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sharpcli import batchnorm
from sharpcli.errors import InputError, SettingsError
from sharpcli.objective import Objective
from tests.nets import NUM_SAMPLES, images, made_model, objective


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 4))


@pytest.mark.parametrize("bn", ["eval", "recompute"])
def test_batch_norm_without_running_statistics_is_refused_where_they_are_used(bn: str):
    """Each loss would depend on the batch it is in, and the answer on the batch size."""
    with pytest.raises(InputError, match="keeps no running statistics") as caught:
        Objective.of(without_statistics(), *images(), bn=bn)
    assert "--bn batch" in caught.value.hint
    assert Objective.of(without_statistics(), *images(), bn="batch").bn == "batch"


def test_policies_in_words():
    assert objective("mlp").bn_policy == "none"
    assert objective("mlp", bn="batch").bn_policy == "none"
    assert objective("conv").bn_policy == "eval (stored statistics)"
    assert objective("conv", bn="recompute").bn_policy == "recompute (over the analysed samples, blocks of 1000)"
    assert objective("conv", bn="batch", bn_block=32).bn_policy == "batch (fixed blocks of 32 samples)"


def test_settings_that_clash_or_do_not_exist_are_refused():
    for options, message in (
        ({"bn": "batch", "chunk_size": 10}, 'cannot be combined with bn="batch"'),
        ({"bn": "batch", "bn_block": 1}, "no variance"),
        ({"bn": "train"}, "no BatchNorm policy called 'train'"),
    ):
        with pytest.raises(SettingsError, match=message) as caught:
            objective("conv", **options)
        assert caught.value.hint


def test_a_model_without_batch_norm_is_not_bound_to_blocks():
    assert objective("mlp", bn="batch", bn_block=10).chunk_sizes == [NUM_SAMPLES]


@pytest.mark.parametrize(
    ("count", "block", "sizes"),
    [
        (103, 40, [40, 40, 23]),
        (81, 40, [40, 41]),
        (80, 40, [40, 40]),
        (41, 40, [41]),
        (40, 40, [40]),
        (3, 40, [3]),
        (1, 40, [1]),
    ],
)
def test_blocks_hold_every_sample_once_and_no_sample_alone(count: int, block: int, sizes: list[int]):
    assert batchnorm.block_sizes(count, block) == sizes


def test_a_block_larger_than_the_data_is_all_of_the_data():
    made = objective("conv", bn="batch", bn_block=500)
    assert made.chunk_sizes == [NUM_SAMPLES]
    assert made.bn_policy == f"batch (fixed blocks of {NUM_SAMPLES} samples)"


def test_batch_statistics_are_those_that_training_normalises_with():
    """One block of all samples: the loss in training mode, without dropout."""
    model = made_model("conv")
    model[6].p = 0.0
    inputs, targets = images()
    whole = nn.functional.cross_entropy(model.train()(inputs), targets)
    made = objective("conv", bn="batch", bn_block=NUM_SAMPLES)
    assert made.loss(made.parameters()) == pytest.approx(float(whole.detach()), rel=1e-12)


def test_recomputed_statistics_are_those_of_the_data_at_the_weights():
    made = objective("conv", bn="recompute", chunk_size=13)
    features = made.model[0](made.inputs).detach()
    torch.testing.assert_close(made.model[1].running_mean, features.mean((0, 2, 3)))
    torch.testing.assert_close(made.model[1].running_var, features.var((0, 2, 3)))
    stored = objective("conv", chunk_size=13)
    theta = stored.parameters()
    wanted = stored.evaluate(theta, stored.recompute_buffers(theta))
    assert made.evaluate(theta) == wanted != stored.evaluate(theta)


def test_recomputed_statistics_weight_blocks_by_their_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sharpcli.batchnorm.BN_BLOCK", 60)
    made = objective("conv", chunk_size=13)
    features = made.model[0](made.inputs).detach()
    buffers = made.recompute_buffers(made.parameters())
    parts = features[:60], features[60:]
    wanted = sum(len(part) * part.var((0, 2, 3)) for part in parts) / NUM_SAMPLES
    torch.testing.assert_close(buffers["1.running_mean"], features.mean((0, 2, 3)))
    torch.testing.assert_close(buffers["1.running_var"], wanted)


def test_a_last_block_of_one_sample_joins_the_one_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sharpcli.batchnorm.BN_BLOCK", NUM_SAMPLES - 1)
    made = objective("conv")
    features = made.model[0](made.inputs).detach()
    buffers = made.recompute_buffers(made.parameters())
    torch.testing.assert_close(buffers["1.running_var"], features.var((0, 2, 3)))


def test_a_model_that_is_one_batch_norm_layer():
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    made = Objective.of(nn.BatchNorm1d(4), inputs, torch.arange(20) % 4, bn="recompute")
    torch.testing.assert_close(made.model.running_mean.cpu(), inputs.mean(0))


@pytest.mark.parametrize("command", ["hessian", "train"])
def test_blocks_mix_the_classes_of_data_sorted_by_class(command: str, tmp_path: Path, sharpcli: Callable[..., Any]):
    """Folders of classes come sorted. A block of one class, normalised by itself, would hide what tells it from others."""
    centres = torch.eye(4)[:, :, None, None] * 3
    classes = torch.arange(64) // 16
    random = torch.Generator().manual_seed(0)
    images = centres[classes] + torch.randn(64, 4, 8, 8, generator=random)
    arrays = {
        f"{name}_{part}": tensor.cpu().numpy() for part in ("train", "test") for name, tensor in (("x", images), ("y", classes))
    }
    np.savez(tmp_path / "sorted.npz", **arrays)
    net = ["--model", "convnet", "--model-arg", "norm=batch", "--data", f"npz:{tmp_path / 'sorted.npz'}"]
    mode, size = ("fullbatch", "--ghost-bn") if command == "train" else ("sgd", "--batch-size")
    how = ["--mode", mode, size, 16, "--steps", 60, "--lr", 0.1, "--out", tmp_path / "run"]
    trained = sharpcli("train", *net, *how, "--json")
    assert trained.exit_code == 0, trained.stderr
    if command == "train":  # Running statistics of mixed blocks fit the whole; those of one class at a time do not.
        assert json.loads(trained.stdout)["result"]["rows"][0]["train_loss"] < 0.3
        return
    path = tmp_path / "run" / "sgd"
    answers = [
        json.loads(sharpcli("hessian", path, "--topk", 1, "--bn", "batch", "--bn-block", block, "--json").stdout)["result"]
        for block in (16, 64)
    ]
    assert answers[0]["loss"] < 2 * answers[1]["loss"] + 0.1
