"""What a mode and the user's settings come to: every number of a training run, before it starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sharpcli import plugins
from sharpcli.errors import SettingsError
from sharpcli.settings import TrainSettings
from sharpcli.training.methods.fullbatch import GHOST_BLOCK

BASE_BATCH = 64  # The batch size that --lr belongs to when --lr-scale is used.
_COMMON = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warmup": 0.05,
    "clip": 0.0,
    "lr_scale": "none",
}
_ADAM_LR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run: `updates` steps, each with the mean gradient over `batch_size` samples, `chunk_size` at a time."""

    mode: str
    batch_size: int
    chunk_size: int
    updates: int
    updates_per_epoch: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: int
    clip: float
    eval_every: int
    save_every: int | None
    stop_train_loss: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update, counted from 0."""
        if update < self.warmup:
            return self.lr * (update + 1) / self.warmup
        done = (update - self.warmup) / max(self.updates - self.warmup, 1)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "step":
            return self.lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
        return self.lr


def plan(mode: str, settings: TrainSettings, num_train: int, *, chunk_size: int, has_batch_norm: bool) -> Recipe:
    """Fill in what the user left open.

    Args:
        mode: Plug-in in training/methods.
        settings: What the user chose.
        num_train: N, samples in the training set.
        chunk_size: Samples that fit in memory at once, if the user has not said.
        has_batch_norm: BatchNorm normalises a chunk by itself, so there its size is part of the method.

    Raises:
        SettingsError: Unknown mode, a batch larger than the training set, or fullbatch with another batch.
    """
    values = {**_COMMON, "eval_every": None, **plugins.load("training/methods", mode).defaults(num_train)}
    if settings.optimizer == "adam":
        values["lr"] = _ADAM_LR
    for name in (*_COMMON, "batch_size", "epochs", "lr", "eval_every"):
        values[name] = values[name] if getattr(settings, name) is None else getattr(settings, name)
    batch = int(values["batch_size"])
    if batch > num_train:
        raise SettingsError(f"--batch-size {batch} is more than the {num_train} training samples.", f"Use at most {num_train}.")
    if mode == "fullbatch" and batch != num_train:
        raise SettingsError(
            f"--batch-size {batch} is not the whole training set, which is what fullbatch means.",
            "Use --chunk-size for the samples held at once, or --mode sgd.",
        )
    if has_batch_norm:
        chunk_size = GHOST_BLOCK if mode == "fullbatch" else batch
    chunk_size = min(settings.chunk_size or chunk_size, batch)
    if has_batch_norm and 1 in (num_train % batch, batch % chunk_size, chunk_size):
        raise SettingsError(
            "These sizes leave a block of one sample, which BatchNorm cannot normalise.",
            "Choose another --chunk-size for fullbatch, or another --batch-size.",
        )
    per_epoch = math.ceil(num_train / batch)
    updates = settings.steps or max(1, round(values["epochs"] * per_epoch))
    return Recipe(
        mode=mode,
        batch_size=batch,
        chunk_size=chunk_size,
        updates=updates,
        updates_per_epoch=per_epoch,
        optimizer=values["optimizer"],
        lr=values["lr"] * _scale(values["lr_scale"], batch),
        momentum=values["momentum"],
        weight_decay=values["weight_decay"],
        schedule=values["schedule"],
        warmup=round(values["warmup"] * updates),
        clip=values["clip"],
        eval_every=values["eval_every"] or per_epoch,
        save_every=settings.save_every,
        stop_train_loss=settings.stop_train_loss,
    )


def _scale(rule: str, batch: int) -> float:
    """Return the factor on the learning rate: √(B/64) (Hoffer 2017), B/64, or 1."""
    ratio = batch / BASE_BATCH
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[rule]
