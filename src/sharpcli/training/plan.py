"""The plan of a training run: every number, from the mode, the recipe and the user's settings, before the run starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sharpcli import plugins
from sharpcli.errors import SettingsError
from sharpcli.named_measures import requested_measures
from sharpcli.settings import TrainSettings
from sharpcli.settings.losses import smoothed
from sharpcli.settings.train import ADAPTIVE, CRITICAL, drops_of, named, tracked
from sharpcli.training.schedules import SCHEDULES, Schedule

GHOST_BLOCK = 128  # Geiping et al.: in a full batch, BatchNorm normalises each block of 128 samples separately.
_ADAPTIVE_LR = 1e-3
_DEFAULTS: dict[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "momentum_rule": "nesterov",
    "weight_decay": 5e-4,
    "clip": 0.0,
    "amp": False,
    "channels_last": False,
    "lr_scale": "none",
    "base_batch": 64,
    "regime_adapt": False,
    "schedule": "cosine",
    "warmup": 0.05,
    "shuffle": "epoch",
    "augment_copies": 0,
    "grad_penalty": 0.0,
    "sam": 0.0,
    "asam": 0.0,
    "proximal": 0.0,
    "proximal_steps": 3,
    "adversarial": 0.0,
    "label_smoothing": 0.0,
    "example_noise": 0.0,
    "coordinate_noise": 0.0,
    "additive_noise": 0.0,
    "eval_every": None,
}


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One run: `updates` steps, each with the mean gradient over `batch_size` samples, `chunk_size` at a time.

    The other fields are the settings of the same names, all with a value; 0 means off. With BatchNorm or a gradient
    penalty, a chunk is the block that BatchNorm normalises and on which the penalty is computed.
    """

    mode: str
    batch_size: int
    chunk_size: int
    updates: int
    updates_per_epoch: int
    optimizer: str
    momentum: float
    momentum_rule: str
    weight_decay: float
    clip: float
    amp: bool
    channels_last: bool
    lr: float
    schedule: str
    schedule_updates: int
    drops: tuple[tuple[float, float], ...]
    final_lr: float
    warmup: int
    shuffle: str
    augment: tuple[str, ...]
    augment_copies: int
    grad_penalty: float
    sam: float
    asam: float
    proximal: float
    proximal_steps: int
    adversarial: float
    label_smoothing: float
    example_noise: float
    coordinate_noise: float
    additive_noise: float
    average: tuple[str, ...]
    eval_every: int
    save_every: int | None
    track_sharpness: int | None
    track_critical: int | None
    track_measures: tuple[tuple[str, int], ...]
    stop_train_loss: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update, counted from 0."""
        if update < self.warmup:
            return self.lr * (update + 1) / self.warmup
        schedule = Schedule(self.schedule_updates, self.final_lr, self.drops)
        return self.lr * SCHEDULES[self.schedule](schedule, update - self.warmup)


def make_plan(mode: str, settings: TrainSettings, num_train: int, *, chunk_size: int, has_batch_norm: bool) -> TrainingPlan:
    """Return the plan of a run, with a value for each setting that the user did not give.

    Args:
        mode: Plug-in in training/modes.
        settings: The user's settings.
        num_train: N, samples in the training set.
        chunk_size: Number of samples that fit in memory together; used if the user gives no chunk size.
        has_batch_norm: Whether the model has BatchNorm. It normalises each chunk separately, so the chunk size is then
            part of the method.

    Raises:
        SettingsError: Unknown mode, a batch larger than the training set, fullbatch with another batch, or settings
            that clash.
    """
    values = _values(mode, settings, num_train)
    batch = _batch_size(mode, int(values["batch_size"]), num_train)
    in_blocks = has_batch_norm or values["grad_penalty"] > 0
    if in_blocks and settings.chunk_size is not None:
        raise SettingsError(
            "--chunk-size cannot be combined with BatchNorm or --grad-penalty, which use blocks of --ghost-bn samples.",
            "Use --ghost-bn, or a model without BatchNorm.",
        )
    if in_blocks:
        chunk_size = settings.ghost_bn or (GHOST_BLOCK if mode == "fullbatch" else batch)
    chunk_size = min(settings.chunk_size or chunk_size, batch)
    if values["shuffle"] == "replacement" and batch == num_train:
        raise SettingsError(
            "--shuffle replacement draws samples at random, but a full batch contains all samples.",
            "Use a smaller --batch-size, or --shuffle once.",
        )
    if has_batch_norm:
        _refuse_lone_samples(batch, chunk_size, num_train)
    per_epoch = math.ceil(num_train / batch)
    stretch = batch / values["base_batch"] if values["regime_adapt"] else 1.0
    updates = settings.steps or max(1, round(values["epochs"] * stretch * per_epoch))
    warmup = round(values["warmup"] * updates) if values["warmup"] < 1 else min(round(values["warmup"]), updates)
    length = settings.schedule_steps or max(updates - warmup, 1)
    swa = values["schedule"] == "swa"
    return TrainingPlan(
        mode=mode,
        batch_size=batch,
        chunk_size=chunk_size,
        updates=updates,
        updates_per_epoch=per_epoch,
        lr=values["lr"] * _scale(values["lr_scale"], batch / values["base_batch"]),
        schedule_updates=length,
        drops=_drops(settings.drops, warmup, length, stretch * per_epoch) if values["schedule"] == "step" else (),
        final_lr=(0.5 if swa else 0.0) if settings.final_lr is None else settings.final_lr,
        warmup=warmup,
        augment=named(settings.augment),
        average=named(settings.average),
        eval_every=values["eval_every"] or per_epoch,
        save_every=settings.save_every,
        track_sharpness=settings.track_sharpness,
        track_critical=_tracked(settings, values["eval_every"] or per_epoch).get(CRITICAL),
        track_measures=tuple(
            (name, every) for name, every in _tracked(settings, values["eval_every"] or per_epoch).items() if name != CRITICAL
        ),
        stop_train_loss=settings.stop_train_loss or None,
        **{name: values[name] for name in _DEFAULTS if name in TrainingPlan.__dataclass_fields__ and name not in _RESOLVED},
    )


def _tracked(settings: TrainSettings, default: int) -> dict[str, int]:
    """Return what is tracked, with the number of updates between two measurements."""
    found = {name: every or default for name, every in map(tracked, named(settings.track))}
    requested_measures([name for name in found if name != CRITICAL])  # An unknown one is refused before the work.
    return found


_RESOLVED = ("warmup", "eval_every")


def _values(mode: str, settings: TrainSettings, num_train: int) -> dict[str, Any]:
    """Return the value of every setting: that of the user, else that of the mode, else the general default."""
    values = {**_DEFAULTS, **plugins.load("training/modes", mode).defaults(num_train)}
    if settings.optimizer in ADAPTIVE:
        values["lr"] = _ADAPTIVE_LR
    for name in (*_DEFAULTS, "batch_size", "epochs", "lr"):
        if getattr(settings, name) is not None:
            values[name] = getattr(settings, name)
    smoothed(settings.loss or "ce", values["label_smoothing"])  # Raises before the work if the loss cannot be smoothed.
    if values["regime_adapt"] and settings.steps is not None:
        raise SettingsError("--regime-adapt multiplies --epochs, but --steps is given.", "Give --epochs.")
    for name in named(settings.augment):
        plugins.load("training/augmentations", name)
    if values["augment_copies"] and not named(settings.augment):
        raise SettingsError("--augment-copies needs an augmentation.", "Give one, such as --augment flip,crop.")
    return values


def idle_options(settings: TrainSettings, plan: TrainingPlan) -> list[str]:
    """Return a sentence for each given option that has no effect; it names what the option needs."""
    needs = {
        "drops": ("--schedule step", plan.schedule == "step"),
        "final_lr": ("a --schedule that decreases", plan.schedule in ("cosine", "linear", "swa")),
        "schedule_steps": ("a --schedule that decreases", plan.schedule != "constant"),
        "base_batch": ("--lr-scale or --regime-adapt", settings.regime_adapt or settings.lr_scale not in (None, "none")),
        "proximal_steps": ("--proximal", plan.proximal > 0),
        "momentum_rule": ("--optimizer sgd", plan.optimizer == "sgd"),
        "amp": ("--dtype float32", settings.dtype == "float32"),
    }
    return [
        f"--{name.replace('_', '-')} has no effect without {what}."
        for name, (what, met) in needs.items()
        if getattr(settings, name) not in (None, False) and not met
    ]


def _batch_size(mode: str, batch: int, num_train: int) -> int:
    if batch > num_train:
        raise SettingsError(f"--batch-size {batch} is more than the {num_train} training samples.", f"Use at most {num_train}.")
    if mode == "fullbatch" and batch != num_train:
        raise SettingsError(
            f"--batch-size {batch} is not the size of the training set, but fullbatch needs this size.",
            "To limit the memory, use --chunk-size. For smaller batches, use --mode sgd.",
        )
    return batch


def _refuse_lone_samples(batch: int, block: int, num_train: int) -> None:
    """Refuse sizes that leave BatchNorm a block of one sample, which has no variance."""
    if block == 1 or num_train % batch == 1:
        raise SettingsError(
            "These sizes leave a block of one sample, which BatchNorm cannot normalise.",
            "Choose another --ghost-bn, or another --batch-size.",
        )


def _scale(rule: str, ratio: float) -> float:
    """Return the factor on the learning rate: √(B/B₀) (Hoffer 2017), B/B₀, or 1."""
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[rule]


def _drops(text: str | None, warmup: int, length: int, per_epoch: float) -> tuple[tuple[float, float], ...]:
    """Return pairs: a number of updates after warm-up, and the factor of the learning rate from that update on."""
    if text is None:
        return (0.5 * length, 0.1), (0.75 * length, 0.01)
    return tuple((epoch * per_epoch - warmup, factor) for epoch, factor in drops_of(text))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
