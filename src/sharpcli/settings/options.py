"""The options of the functions of sharpcli by name and type, so that an editor can complete and check them.

Written by `tools/write_options.py` from the settings; a test holds it up to date. Where several values are possible, a
single one needs no list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class SubjectOptions(TypedDict, total=False):
    """Options of every function with a model."""

    model: str | None
    model_arg: str | Sequence[str]
    num_classes: int | None
    weights: str | None
    ignore_keys: str | Sequence[str]
    allow_pickle: bool
    data_arg: str | Sequence[str]
    transform: str | None
    data_root: str
    download: bool
    loss: str | None
    output: str | None
    device: str
    dtype: str
    seed: int
    deterministic: bool


class AnalysisOptions(SubjectOptions, total=False):
    """Options of every analysis."""

    split: str
    samples: int | None
    chunk_size: int | None


class CompareOptions(AnalysisOptions, total=False):
    """Options of `compare`."""

    metrics: str | Sequence[str]
    measure: str | Sequence[str]
    epsilon: float
    tol: float


class DistanceOptions(AnalysisOptions, total=False):
    """Options of `distance`."""

    data: str | None
    per_layer: bool
    fit_from: int
    fit_to: int | None


class DoctorOptions(TypedDict, total=False):
    """Options of `doctor`."""

    data_root: str
    measure: bool | None


class HessianOptions(AnalysisOptions, total=False):
    """Options of `hessian`."""

    topk: int
    bottomk: int
    which: str
    tol: float
    max_hvp: int | None
    max_minutes: float | None
    memory: str | None
    certify: str
    confirm: int
    operator: str
    engine: str
    compile: str
    params: str | Sequence[str]
    bn: str
    bn_block: int
    trace: bool
    trace_tol: float
    density: bool
    probes: int
    density_steps: int
    above: float | Sequence[float]
    ggn_split: bool
    per_layer: bool
    blocks: str
    along_run: bool
    vectors: str | None
    state: str | None


class InspectOptions(AnalysisOptions, total=False):
    """Options of `inspect`."""

    data: str | None
    expect: str | Sequence[str]


class InterpolateOptions(AnalysisOptions, total=False):
    """Options of `interpolate`."""

    range: str
    points: int
    path: str
    bezier_steps: int
    bezier_batch: int
    bn: str
    align: bool
    curvature: bool


class ReparamOptions(AnalysisOptions, total=False):
    """Options of `reparam`."""

    data: str | None
    factor: float
    layer: str | None
    into: str | None
    logits: bool
    attention: bool


class SharpnessOptions(AnalysisOptions, total=False):
    """Options of `sharpness`."""

    measure: str | Sequence[str]
    list: bool
    epsilon: float | Sequence[float]
    subspace: int | Sequence[int]
    iterations: int
    restarts: int
    eigenvector: bool
    draws: int


class SurfaceOptions(AnalysisOptions, total=False):
    """Options of `surface`."""

    axes: str
    range: str | None
    points: int
    bn: str
    state: str | None


class TrainOptions(SubjectOptions, total=False):
    """Options of `train`."""

    data: str | None
    mode: str | Sequence[str]
    recipe: str | Sequence[str]
    list_recipes: bool
    sweep: str | Sequence[str]
    out: str | None
    overwrite: bool
    resume: bool
    init_from: str | None
    batch_size: int | None
    chunk_size: int | None
    optimizer: str | None
    momentum: float | None
    momentum_rule: str | None
    weight_decay: float | None
    clip: float | None
    amp: bool | None
    channels_last: bool | None
    epochs: float | None
    steps: int | None
    stop_train_loss: float | None
    lr: float | None
    lr_scale: str | None
    base_batch: int | None
    regime_adapt: bool | None
    schedule: str | None
    drops: str | None
    schedule_steps: int | None
    final_lr: float | None
    warmup: float | None
    ghost_bn: int | None
    grad_penalty: float | None
    sam: float | None
    asam: float | None
    proximal: float | None
    proximal_steps: int | None
    adversarial: float | None
    label_smoothing: float | None
    example_noise: float | None
    coordinate_noise: float | None
    additive_noise: float | None
    average: str | Sequence[str]
    shuffle: str | None
    augment: str | Sequence[str]
    augment_copies: int | None
    eval_every: int | None
    save_every: int | None
    track: str | Sequence[str]
    track_sharpness: int | None
    state_seconds: float


class WatchOptions(AnalysisOptions, total=False):
    """Options of `watch`."""

    data: str | None
    metrics: str | Sequence[str]
    measure: str | Sequence[str]
    epsilon: float
    tol: float
    init: str | None
    every: int
    state: str | None
