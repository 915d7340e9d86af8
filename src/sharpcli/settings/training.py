"""What `train` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import SubjectSettings, option, require_at_least, require_choice

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant", "step")
LR_SCALES = ("none", "sqrt", "linear")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(SubjectSettings):
    """How to train. What is None is filled in by the mode (`sharpcli.training.methods`)."""

    model: str | None = option("convnet", "Model: a built-in name, torchvision:NAME, file.py:fn or pkg.mod:attr.", "SPEC")
    data: str | None = option("fashion-mini", "Data: a built-in name, npz:FILE or folder:PATH.", "SPEC")
    loss: str | None = option("ce", "ce (cross-entropy) or mse (half the squared error), mean over samples.", "NAME")
    mode: tuple[str, ...] = option(
        ("sgd",),
        "sgd, largebatch, fullbatch; several, separated by commas, start from the same initial weights.",
        "NAME[,NAME]",
    )
    out: str | None = option(None, "Folder of the run. Default: runs/MODEL-DATA-sSEED.", "PATH")
    epochs: float | None = option(None, "Passes over the training set.", "X")
    steps: int | None = option(None, "Updates, instead of --epochs.", "N")
    batch_size: int | None = option(None, "Samples an update averages over.", "N")
    chunk_size: int | None = option(
        None, "Samples held at once; without BatchNorm it changes the gradient by rounding only.", "N"
    )
    optimizer: str | None = option(None, "sgd or adam.", "NAME")
    lr: float | None = option(None, "Peak learning rate.", "X")
    lr_scale: str | None = option(None, "Scale --lr by the batch size over 64: none, sqrt (Hoffer 2017) or linear.", "NAME")
    momentum: float | None = option(None, "Momentum of SGD (Nesterov); β1 of Adam.", "X")
    weight_decay: float | None = option(None, "L2 penalty added to the gradient; never part of the loss that is reported.", "X")
    schedule: str | None = option(None, "cosine, constant, or step: a tenth at 1/2 and again at 3/4.", "NAME")
    warmup: float | None = option(None, "Fraction of the updates over which the learning rate rises linearly.", "X")
    clip: float | None = option(None, "Clip the L2 norm of the mean gradient, before weight decay; 0 is off.", "X")
    stop_train_loss: float | None = option(
        None, "Stop once the loss over the whole training set is at most this; evaluates 5x as often when near.", "X"
    )
    eval_every: int | None = option(None, "Updates between two evaluations. Default: an epoch; 10 for fullbatch.", "N")
    save_every: int | None = option(None, "Keep a checkpoint step-N.pt every N updates.", "N")
    init: str | None = option(None, "Start from these weights instead of random ones.", "FILE")
    overwrite: bool = option(False, "Replace an existing run.")
    resume: bool = option(False, "Continue an interrupted run from its last saved state.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mode:
            raise SettingsError("--mode is empty.", "Choose one: --mode sgd.")
        if len(set(self.mode)) < len(self.mode):
            raise SettingsError("--mode names the same mode twice.", "Name each mode once.")
        if self.epochs is not None and self.steps is not None:
            raise SettingsError("--epochs and --steps are both given.", "Give one of the two.")
        if self.overwrite and self.resume:
            raise SettingsError("--overwrite and --resume are both given.", "Give one of the two.")
        require_choice("optimizer", self.optimizer or "sgd", OPTIMIZERS)
        require_choice("schedule", self.schedule or "cosine", SCHEDULES)
        require_choice("lr-scale", self.lr_scale or "none", LR_SCALES)
        for name in ("epochs", "lr", "stop_train_loss"):
            require_at_least(name.replace("_", "-"), getattr(self, name), 0, strictly=True)
        for name in ("steps", "batch_size", "chunk_size", "eval_every", "save_every"):
            require_at_least(name.replace("_", "-"), getattr(self, name), 1)
        for name in ("weight_decay", "clip", "momentum", "warmup"):
            require_at_least(name.replace("_", "-"), getattr(self, name), 0)
        for name in ("momentum", "warmup"):
            if (getattr(self, name) or 0) >= 1:
                raise SettingsError(
                    f"--{name} is {getattr(self, name):g}, but must be below 1.", f"Give --{name} another value."
                )
