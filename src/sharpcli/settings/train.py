"""Settings of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sharpcli.errors import SettingsError
from sharpcli.settings.base import SubjectSettings, option, require_at_least, require_choice

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
ADAPTIVE = OPTIMIZERS[1:]  # They divide each step by second moments of the gradient.
MOMENTUM_RULES = ("nesterov", "polyak")
SCHEDULES = ("cosine", "constant", "linear", "step", "swa")
LR_SCALES = ("none", "sqrt", "linear")
SHUFFLES = ("epoch", "once", "replacement")
CRITICAL = "critical"
AVERAGES = ("tail", "ema", "swa")
AUTO = "auto"
NONE = "none"

_rate = partial(option, panel="Learning rate and length")
_method = partial(option, panel="Methods (all can be combined)")
_data = partial(option, panel="Data order and augmentation")
_keep = partial(option, panel="Evaluation and saving")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(SubjectSettings):
    """Settings of a training. First the recipe, then the mode (`sharpcli.training.modes`) replaces None by a value."""

    model: str | None = option(
        "convnet", "Model: a built-in name, torchvision:NAME, timm:NAME, file.py:fn or pkg.mod:attr.", "SPEC"
    )
    data: str | None = option("fashion-mini", "Data: a built-in name, npz:FILE, folder:PATH, file.py:fn or pkg.mod:fn.", "SPEC")
    loss: str | None = option(
        None,
        "ce (cross-entropy), mse (half the squared error) or bce (binary cross-entropy), with options as in bce:pos_weight=2; "
        "or file.py:fn. Default: that of the recipe, else ce.",
        "SPEC",
    )
    mode: tuple[str, ...] = option(
        (AUTO,),
        "sgd, largebatch or fullbatch. Several, separated by commas, start from the same initial weights. "
        "Default: that of the recipe, else sgd.",
        "NAME[,NAME]",
    )
    recipe: tuple[str, ...] = option(
        (),
        "Recipe (settings of a paper). Several start from the same initial weights. Other options override its settings.",
        "NAME[,NAME]",
    )
    list_recipes: bool = option(False, "List all recipes with their settings and sources, and exit.")
    sweep: tuple[str, ...] = option(
        (),
        "Train one run per value, such as lr=0.01,0.1 or seed=0,1,2. Repeat for a grid.",
        "OPTION=VALUES",
    )
    out: str | None = option(None, "Folder of the run. Default: runs/MODEL-DATA-sSEED.", "PATH")
    overwrite: bool = option(False, "Replace an existing run.")
    resume: bool = option(False, "Continue an interrupted run from its last saved state.")
    init_from: str | None = option(
        None, "Start from these weights, such as a saved step of another run, instead of random weights.", "FILE"
    )

    batch_size: int | None = option(None, "Samples per update.", "N")
    chunk_size: int | None = option(
        None, "Samples per forward and backward pass. It changes the gradient by rounding only.", "N"
    )
    optimizer: str | None = option(
        None, "sgd, adam, adamw (weight decay outside the moments) or rmsprop. Default: that of the recipe, else sgd.", "NAME"
    )
    momentum: float | None = option(None, "Momentum of SGD and RMSprop; β1 of Adam. Default: 0.9.", "X")
    momentum_rule: str | None = option(None, "nesterov or polyak (heavy ball). Default: nesterov.", "NAME")
    weight_decay: float | None = option(
        None, "Coefficient of the L2 penalty in the gradient. The reported loss does not include it.", "X"
    )
    clip: float | None = option(None, "Maximum L2 norm of the mean gradient, before weight decay; 0 for no clipping.", "X")
    amp: bool | None = option(
        None, "Train in mixed precision: forward and backward passes in bfloat16, weights and sums as without it."
    )

    channels_last: bool | None = option(
        None, "Use the memory format channels_last: 1.2 times faster with BatchNorm on a CPU, slower with GroupNorm."
    )

    epochs: float | None = _rate(None, "Number of passes over the training set.", "X")
    steps: int | None = _rate(None, "Number of updates, instead of --epochs.", "N")
    stop_train_loss: float | None = _rate(
        None,
        "Stop when the loss over the training set is at most this value; evaluated more often near it. 0 for no stop.",
        "X",
    )
    lr: float | None = _rate(None, "Peak learning rate.", "X")
    lr_scale: str | None = _rate(None, "Scale --lr with batch size / --base-batch: none, sqrt (Hoffer 2017) or linear.", "NAME")
    base_batch: int | None = _rate(None, "Batch size for which --lr and --epochs were chosen. Default: 64.", "N")
    regime_adapt: bool | None = _rate(None, "Train for as many updates as --base-batch would take in --epochs (Hoffer 2017).")
    schedule: str | None = _rate(
        None,
        "cosine, constant, linear, step (see --drops) or swa (constant, then linear to --final-lr, then constant).",
        "NAME",
    )
    drops: str | None = _rate(
        None,
        "Drops of the step schedule: EPOCH:FACTOR,... of the peak rate. Default: 0.1 at 1/2 and 0.01 at 3/4 of it.",
        "LIST",
    )
    schedule_steps: int | None = _rate(
        None, "Number of updates from the end of warm-up to the end of the schedule. --steps may end the run earlier.", "N"
    )
    final_lr: float | None = _rate(
        None, "Final learning rate of the schedule, as a fraction of the peak. Default: 0; 0.5 for swa.", "X"
    )
    warmup: float | None = _rate(None, "Length of the linear warm-up in updates, or below 1 as a fraction of the run.", "X")

    ghost_bn: int | None = _method(
        None,
        "Samples per block: BatchNorm normalises each block separately, and --grad-penalty is computed per block. "
        "Default: the batch; 128 with fullbatch.",
        "N",
    )
    grad_penalty: float | None = _method(
        None, "Strength β of the gradient penalty (lr β/8) |∇L_B|² of each block B (Geiping 2022: 0.5).", "X"
    )
    sam: float | None = _method(None, "Radius of sharpness-aware minimization (Foret 2021: 0.05).", "X")
    asam: float | None = _method(
        None, "Radius of adaptive sharpness-aware minimization, which is scale-invariant (Kwon 2021: 2).", "X"
    )
    proximal: float | None = _method(
        None,
        "Strength λ of conservative training: each update minimizes f_B(x) + λ/2 |x - x_k|² in a few steps (Keskar 2017).",
        "X",
    )
    proximal_steps: int | None = _method(None, "Optimizer steps per update with --proximal. Default: 3.", "N")
    adversarial: float | None = _method(
        None, "Train on inputs shifted by this size along the sign of their gradient (FGSM, Goodfellow 2015).", "X"
    )
    label_smoothing: float | None = _method(
        None, "Share of each target that is spread over all classes. Reported losses are without smoothing.", "X"
    )
    example_noise: float | None = _method(
        None, "Multiply the gradient of each example by a draw from N(1, σ²) (Hoffer 2017).", "σ"
    )
    coordinate_noise: float | None = _method(
        None, "Multiply each coordinate of the mean gradient by a draw from N(1, σ²), before clipping (Geiping 2022).", "σ"
    )
    additive_noise: float | None = _method(
        None, "Add a draw from N(0, σ²) to each coordinate of the mean gradient, before clipping.", "σ"
    )
    average: tuple[str, ...] = _method(
        (),
        "Also save averaged weights: tail:0.5 (last half of the run), ema:0.999, swa:0.75 (epochs of the last quarter); none.",
        "NAME:X[,...]",
    )

    shuffle: str | None = _data(
        None, "epoch (a new order each epoch), once (fixed blocks) or replacement. Default: epoch; once with fullbatch.", "NAME"
    )
    augment: tuple[str, ...] = _data((), "flip, crop, shift, rotate (drawn again in each epoch) or none.", "NAME[,NAME]")
    augment_copies: int | None = _data(
        None,
        "Draw --augment once for N copies of the data. A full batch uses all copies, small batches one copy per epoch.",
        "N",
    )

    eval_every: int | None = _keep(None, "Updates between two evaluations. Default: one epoch; 10 with fullbatch.", "N")
    save_every: int | None = _keep(None, "Save a checkpoint step-N.pt every N updates.", "N")
    track: tuple[str, ...] = _keep(
        (),
        "Record every N updates (default: --eval-every) a measure of sharpness --list, or critical, the critical sharpness "
        "along the optimizer's next update; none. Repeat for several.",
        "NAME[:...][@N]",
    )
    track_sharpness: int | None = _keep(
        None,
        "Every N updates record λmax of the training objective (with its data, BatchNorm blocks and smoothing) and 2/lr.",
        "N",
    )
    state_seconds: float = _keep(20.0, "Seconds between two saves of the state that --resume needs.", "X")

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
        for text in named(self.track):
            tracked(text)

    def _check_numbers(self) -> None:
        """Refuse numbers that are out of range."""
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
    """Return the names; the single name "none", which removes a setting of a recipe, gives an empty tuple."""
    return () if words == (NONE,) else words


def average_of(text: str) -> tuple[str, float]:
    """Read an average such as "tail:0.5".

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


def tracked(text: str) -> tuple[str, int | None]:
    """Read a quantity to track, such as "critical@20", as its text and the updates between two measurements, or None.

    The name, and the options of a measure as in "worst-case:rho=0.05@20", are checked when the run is planned.

    Raises:
        SettingsError: A number that is not an integer of at least 1.
    """
    name, at, every = text.partition("@")
    if at and not (every.isascii() and every.isdigit() and 0 < int(every) < 10**9):
        raise SettingsError(f"--track {text} needs a number of updates of at least 1.", f"Write it like {name}@20.")
    return name, int(every) if at else None


def drops_of(text: str) -> tuple[tuple[float, float], ...]:
    """Read "81:0.1,122:0.01" as pairs of epoch and factor of the peak learning rate.

    Raises:
        SettingsError: The text is not such a list, its epochs do not increase, or a number is negative.
    """
    try:
        pairs = tuple((float(epoch), float(factor)) for epoch, factor in (part.split(":") for part in text.split(",")))
    except ValueError:
        pairs = ()
    epochs = [epoch for epoch, _ in pairs]
    if not pairs or epochs != sorted(set(epochs)) or not all(epoch >= 0 and factor >= 0 for epoch, factor in pairs):
        raise SettingsError(f"--drops '{text}' is no list of epochs and factors.", "Write it like 81:0.1,122:0.01.")
    return pairs
