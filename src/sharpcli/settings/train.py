"""What `train` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sharpcli.errors import SettingsError
from sharpcli.settings.base import SubjectSettings, option, require_at_least, require_choice

OPTIMIZERS = ("sgd", "adam")
MOMENTUM_RULES = ("nesterov", "polyak")
SCHEDULES = ("cosine", "constant", "linear", "step", "swa")
LR_SCALES = ("none", "sqrt", "linear")
SHUFFLES = ("epoch", "once", "replacement")
AVERAGES = ("tail", "ema", "swa")
AUTO = "auto"
NONE = "none"

_rate = partial(option, panel="Learning rate and length")
_method = partial(option, panel="Methods (each combines with the others)")
_data = partial(option, panel="Data order and augmentation")
_keep = partial(option, panel="What is kept and tracked")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(SubjectSettings):
    """How to train. What is None is filled in by the recipe, then by the mode (`sharpcli.training.modes`)."""

    model: str | None = option("convnet", "Model: a built-in name, torchvision:NAME, file.py:fn or pkg.mod:attr.", "SPEC")
    data: str | None = option("fashion-mini", "Data: a built-in name, npz:FILE, folder:PATH, file.py:fn or pkg.mod:fn.", "SPEC")
    loss: str | None = option(
        None,
        "ce (cross-entropy), mse (half the squared error) or bce (binary), with options such as bce:pos_weight=2. "
        "Default: the recipe's, else ce.",
        "NAME[:OPTIONS]",
    )
    mode: tuple[str, ...] = option(
        (AUTO,),
        "sgd, largebatch, fullbatch; several, separated by commas, start from the same initial weights. "
        "Default: as the recipe says, else sgd.",
        "NAME[,NAME]",
    )
    recipe: tuple[str, ...] = option(
        (),
        "Settings of a paper by name; several start from the same weights. Any other option overrides.",
        "NAME[,NAME]",
    )
    list_recipes: bool = option(False, "Print every recipe with what it sets and its source, and end.")
    sweep: tuple[str, ...] = option(
        (),
        "Train once for each value, such as lr=0.01,0.1 or seed=0,1,2. Repeat for a grid.",
        "OPTION=VALUES",
    )
    out: str | None = option(None, "Folder of the run. Default: runs/MODEL-DATA-sSEED.", "PATH")
    overwrite: bool = option(False, "Replace an existing run.")
    resume: bool = option(False, "Continue an interrupted run from its last saved state.")
    init_from: str | None = option(
        None, "Start from these weights, such as a saved step of another run, instead of random ones.", "FILE"
    )

    batch_size: int | None = option(None, "Samples an update averages over.", "N")
    chunk_size: int | None = option(None, "Samples held at once; changes the gradient by rounding only.", "N")
    optimizer: str | None = option(None, "sgd or adam.", "NAME")
    momentum: float | None = option(None, "Momentum of SGD; β1 of Adam.", "X")
    momentum_rule: str | None = option(None, "nesterov or polyak (heavy ball). Default: nesterov.", "NAME")
    weight_decay: float | None = option(None, "L2 penalty added to the gradient; never part of the loss that is reported.", "X")
    clip: float | None = option(None, "Clip the L2 norm of the mean gradient, before weight decay; 0 is off.", "X")
    amp: bool | None = option(None, "Train in mixed precision (bfloat16 passes, weights and sums as ever).")

    channels_last: bool | None = option(
        None, "Lay images out with channels last: 1.2 times faster with BatchNorm on a CPU, slower with GroupNorm."
    )

    epochs: float | None = _rate(None, "Passes over the training set.", "X")
    steps: int | None = _rate(None, "Updates, instead of --epochs.", "N")
    stop_train_loss: float | None = _rate(
        None, "Stop once the loss over the whole training set is at most this; evaluates more often when near. 0: never.", "X"
    )
    lr: float | None = _rate(None, "Peak learning rate.", "X")
    lr_scale: str | None = _rate(
        None, "Scale --lr by the batch size over --base-batch: none, sqrt (Hoffer 2017) or linear.", "NAME"
    )
    base_batch: int | None = _rate(None, "Batch size that --lr and --epochs were chosen for. Default: 64.", "N")
    regime_adapt: bool | None = _rate(
        None, "Stretch the run to the updates that --base-batch would make in --epochs (Hoffer 2017)."
    )
    schedule: str | None = _rate(
        None, "cosine, constant, linear, step (see --drops) or swa: constant, then linear to --final-lr, then constant.", "NAME"
    )
    drops: str | None = _rate(
        None,
        "Where the step schedule drops, EPOCH:FACTOR,... of the peak. Default: 0.1 at 1/2, 0.01 at 3/4.",
        "LIST",
    )
    schedule_steps: int | None = _rate(None, "Updates from warm-up to the schedule's end, which --steps may cut.", "N")
    final_lr: float | None = _rate(None, "Where the schedule ends, as a fraction of the peak. Default: 0; swa: 0.5.", "X")
    warmup: float | None = _rate(None, "Updates of linear warm-up: their number, or below 1 their fraction.", "X")

    ghost_bn: int | None = _method(
        None,
        "Samples that BatchNorm normalises by themselves, and that --grad-penalty is taken over. "
        "Default: the batch; 128 in full batch.",
        "N",
    )
    grad_penalty: float | None = _method(
        None, "Strength β of the gradient penalty (lr β/8) |∇L_B|² of each block B (Geiping 2022: 0.5).", "X"
    )
    sam: float | None = _method(None, "Radius of sharpness-aware minimization (Foret 2021: 0.05).", "X")
    asam: float | None = _method(None, "Radius of its scale-invariant version (Kwon 2021: 2).", "X")
    proximal: float | None = _method(
        None, "Strength λ of conservative training, min f_B(x) + λ/2 |x - x_k|², a few steps an update (Keskar 2017).", "X"
    )
    proximal_steps: int | None = _method(None, "Steps of the optimizer an update of --proximal. Default: 3.", "N")
    adversarial: float | None = _method(
        None, "Train on inputs moved by this much along the sign of their gradient (FGSM, Goodfellow 2015).", "X"
    )
    label_smoothing: float | None = _method(None, "Share of a target spread over all classes; reported losses stay plain.", "X")
    example_noise: float | None = _method(
        None, "Weigh each example's gradient by z ~ N(1, σ²): multiplicative noise (Hoffer 2017).", "σ"
    )
    coordinate_noise: float | None = _method(
        None, "Multiply each coordinate of the mean gradient by N(1, σ²), before clipping (as Geiping 2022 tries).", "σ"
    )
    additive_noise: float | None = _method(None, "Add N(0, σ²) to each coordinate of the mean gradient, before clipping.", "σ")
    average: tuple[str, ...] = _method(
        (),
        "Also keep averages: tail:0.5 (mean from half of the run), ema:0.999, swa:0.75 (mean of ends of epochs); or none.",
        "NAME:X[,...]",
    )

    shuffle: str | None = _data(
        None, "epoch (anew each pass), once (blocks drawn once) or replacement. Default: epoch; once in full batch.", "NAME"
    )
    augment: tuple[str, ...] = _data((), "flip, crop, shift, rotate: random, anew for each pass; or none.", "NAME[,NAME]")
    augment_copies: int | None = _data(
        None, "Draw --augment once, in N copies of the data: a full batch takes all, small batches one copy a pass.", "N"
    )

    eval_every: int | None = _keep(None, "Updates between two evaluations. Default: an epoch; 10 for fullbatch.", "N")
    save_every: int | None = _keep(None, "Keep a checkpoint step-N.pt every N updates.", "N")
    track_sharpness: int | None = _keep(
        None, "Every N updates, λmax of the loss that is descended (its data, BatchNorm blocks, smoothing) against 2/lr.", "N"
    )
    state_seconds: float = _keep(20.0, "Seconds between two saves of the state that --resume continues from.", "X")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mode:
            raise SettingsError("--mode is empty.", "Choose one: --mode sgd.")
        for name in ("mode", "recipe"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise SettingsError(f"--{name} names the same {name} twice.", f"Name each {name} once.")
        if self.epochs is not None and self.steps is not None:
            raise SettingsError("--epochs and --steps are both given.", "Give one of the two.")
        if self.overwrite and self.resume:
            raise SettingsError("--overwrite and --resume are both given.", "Give one of the two.")
        if self.sam and self.asam:
            raise SettingsError("--sam and --asam are both given.", "Give one of the two.")
        self._check_choices()
        self._check_numbers()

    def _check_choices(self) -> None:
        choices = {
            "optimizer": OPTIMIZERS,
            "momentum_rule": MOMENTUM_RULES,
            "schedule": SCHEDULES,
            "lr_scale": LR_SCALES,
            "shuffle": SHUFFLES,
        }
        for name, allowed in choices.items():
            require_choice(name.replace("_", "-"), getattr(self, name) or allowed[0], allowed)
        kinds = [kind for kind, _ in map(average_of, named(self.average))]
        if len(set(kinds)) < len(kinds):
            raise SettingsError("--average names the same kind twice.", "Name each kind once.")
        if self.drops is not None:
            drops_of(self.drops)

    def _check_numbers(self) -> None:
        """Refuse what is out of range."""
        positive = ("epochs", "lr", "state_seconds")
        counts = (
            "steps", "batch_size", "chunk_size", "eval_every", "save_every", "base_batch", "schedule_steps", "ghost_bn",
            "proximal_steps", "augment_copies", "track_sharpness",
        )  # fmt: skip
        not_negative = (
            "weight_decay", "clip", "momentum", "warmup", "final_lr", "grad_penalty", "sam", "asam", "proximal", "adversarial",
            "label_smoothing", "example_noise", "coordinate_noise", "additive_noise", "stop_train_loss",
        )  # fmt: skip
        for names, least, strictly in ((positive, 0, True), (counts, 1, False), (not_negative, 0, False)):
            for name in names:
                require_at_least(name.replace("_", "-"), getattr(self, name), least, strictly=strictly)
        for name in ("momentum", "label_smoothing"):
            if (getattr(self, name) or 0) >= 1:
                flag = f"--{name.replace('_', '-')}"
                raise SettingsError(f"{flag} is {getattr(self, name):g}, but must be below 1.", f"Give {flag} another value.")


def named(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a list of names holds; "none" alone, which takes back what a recipe sets, is nothing."""
    return () if words == (NONE,) else words


def average_of(text: str) -> tuple[str, float]:
    """Read "tail:0.5" and its like.

    Raises:
        SettingsError: An unknown kind, or a number that is missing or not at least 0 and below 1.
    """
    kind, _, value = text.partition(":")
    require_choice("average", kind, AVERAGES)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise SettingsError(
            f"--average {text} needs a number from 0 to below 1.", f"Write it like {kind}:{0.999 if kind == 'ema' else 0.5}."
        )
    return kind, number


def drops_of(text: str) -> tuple[tuple[float, float], ...]:
    """Read "81:0.1,122:0.01" as pairs of epoch and factor of the peak learning rate.

    Raises:
        SettingsError: It is no such list, or its epochs do not rise.
    """
    try:
        pairs = tuple((float(epoch), float(factor)) for epoch, factor in (part.split(":") for part in text.split(",")))
    except ValueError:
        pairs = ()
    epochs = [epoch for epoch, _ in pairs]
    if not pairs or epochs != sorted(set(epochs)) or not all(epoch >= 0 and factor >= 0 for epoch, factor in pairs):
        raise SettingsError(f"--drops '{text}' is no list of epochs and factors.", "Write it like 81:0.1,122:0.01.")
    return pairs
