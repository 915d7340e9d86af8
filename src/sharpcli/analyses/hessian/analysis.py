"""The spectrum of a checkpoint's curvature matrix: eigenvalues with certificates, and the other requested quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from sharpcli import files, progress
from sharpcli.analyses.hessian import report, spectrum, vectors_file
from sharpcli.analyses.hessian.data_bar import DataBarMeter
from sharpcli.analyses.hessian.layers import Blocks, blocks_of
from sharpcli.analyses.hessian.search import (
    operator_for,
    planner_for,
    search,
    search_identity,
    vector_bytes,
)
from sharpcli.analyses.partial_results import OptionalParts, run_each
from sharpcli.analyses.provenance import recording
from sharpcli.analyses.saved_runs import saved_places
from sharpcli.checkpoints import saved_steps, whole_run
from sharpcli.curvature.dead_parameters import dead_parameters
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.planner import Planner
from sharpcli.curvature.preconditioner import warn_of_batch_norm
from sharpcli.errors import InputError, SettingsError
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.reductions import norm
from sharpcli.loading import (
    LiveModel,
    LoadedCheckpoint,
    Place,
    check_loss,
    checkpoint_paths,
    live_or_file,
    live_or_files,
    load_checkpoint,
)
from sharpcli.results import HessianResult
from sharpcli.settings import HessianSettings, chosen
from sharpcli.settings.options import HessianOptions

_REPEATS = {"float32": 1e-5, "float64": 1e-9}  # Largest relative difference of two losses that rounding can explain.


def hessian(
    checkpoint: str | Path | nn.Module,
    data: object = None,
    *,
    name: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    settings: HessianSettings | None = None,
    **options: Unpack[HessianOptions],
) -> HessianResult:
    """Compute eigenvalues of the Hessian (or another curvature matrix) of the mean loss, with residual, interval and verdict.

    Args:
        checkpoint: File, run folder, or a model in memory, which is not changed.
        data: For a model: arrays, tensors, a Dataset, a DataLoader or a data module, or {"train": ..., "test": ...} of these;
            or the name of a data set. See `datasets.user_data`.
        name: Name of a model in memory in the result.
        optimizer: For a model: the optimizer that trains it, for `operator="preconditioned"`. It is not changed.
        settings: Settings of the analysis, for one split; use `hessian_all` for several checkpoints or both splits.
        **options: Fields of the settings, instead of `settings`, such as `hessian("a.pt", topk=20)` or
            `hessian(model, loader, loss="ce", topk=20)`.

    Returns:
        The requested quantities. If the tolerance is not reached, no error is raised: the verdicts and `advice` report it.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`. If the matrix is not deterministic,
            this is an InputError.
        IncompleteError: An optional quantity, such as the trace, has failed; the error holds the result without it.

    References:
        Pearlmutter 1994 (products); Golub and Van Loan, section 10.1 (Lanczos); docs/trust.md (verdicts).
    """
    place, given = live_or_file(checkpoint, data, options, name=name, optimizer=optimizer)
    settings = chosen(HessianSettings, settings, given)
    if settings.split == "both" or settings.along_run:
        raise SettingsError("hessian() takes one checkpoint and one split.", "Use hessian_all() for several.")
    with _held(settings):
        return _analyse(place, settings, planner_for(settings))[0]


def hessian_all(
    checkpoints: Sequence[str | Path | nn.Module] | Mapping[str, nn.Module],
    data: object = None,
    *,
    settings: HessianSettings | None = None,
    **options: Unpack[HessianOptions],
) -> list[HessianResult]:
    """Run `hessian` for several checkpoints, for all saved steps of runs, and for both splits.

    The arguments are those of `hessian`; `checkpoints` is a list of files, run folders or models in memory, or a mapping from
    names in the results to models. Along a run, each search starts near the eigenvectors of the previous step, which saves
    products.

    Returns:
        One result for each checkpoint, saved step and split, in this order.

    Raises:
        SharpcliError: As for `hessian`; also if `vectors` names a file, but there are several analyses.
        IncompleteError: An analysis has failed; the error holds the results that are complete.
    """
    places, given = live_or_files(checkpoints, data, options)
    settings = chosen(HessianSettings, settings, given)
    splits = ("train", "test") if settings.split == "both" else (settings.split,)
    # The preconditioned Hessian does not exist at the initial weights: the optimizer has no second moments yet.
    saved = partial(saved_places, steps_of=saved_steps if settings.operator == "preconditioned" else whole_run)
    steps_of = [saved(place) if settings.along_run else [place] for place in checkpoint_paths(places)]
    count = len(splits) * sum(map(len, steps_of))
    if settings.vectors and count > 1:
        raise SettingsError("--vectors is one file, but there are several analyses.", "Run one analysis per command.")
    planner, warm = planner_for(settings), dict[tuple[int, str], Tensor | None]()

    def one(run: int, path: Place, split: str, state: str | None) -> HessianResult:
        single = replace(settings, split=split, along_run=False, state=state)
        result, vectors = _analyse(path, single, planner, warm.get((run, split)), splits)
        warm[run, split] = vectors if settings.along_run else None
        return result

    wanted = [(run, path, split) for run, steps in enumerate(steps_of) for path in steps for split in splits]
    with _held(settings):
        return run_each(
            [
                partial(one, *each, str(Path(settings.state) / str(number)) if settings.state and count > 1 else settings.state)
                for number, each in enumerate(wanted)
            ],
            "checkpoint" if len(splits) == 1 else "split",
        )


def _held(settings: HessianSettings) -> AbstractContextManager[None]:
    """Lock the folder of --state for this process."""
    return files.held(files.from_root(settings.state), "--state", folder=True) if settings.state else nullcontext()


def _analyse(
    path: str | Path | LiveModel,
    settings: HessianSettings,
    planner: Planner,
    warm: Tensor | None = None,
    splits: Sequence[str] = (),
) -> tuple[HessianResult, Tensor | None]:
    """Return the result for one checkpoint and split, and the eigenvectors (K, P), or None if no eigenvalue is requested.

    Args:
        path: The checkpoint.
        settings: Settings with one split.
        planner: Selects the engine; shared by all analyses of a command.
        warm: Vectors (J, P) near which the search starts, or None.
        splits: All splits that will be analysed; a missing one is reported before the work on the first one.
    """
    # Absolute paths, because a model's code may change the working directory.
    state, vectors = (files.from_root(place) if place else None for place in (settings.state, settings.vectors))
    if vectors:
        vectors_file.require_writable(vectors)
    with recording(settings) as record, progress.task("spectrum", parts=settings.parts()):
        loaded = load_checkpoint(path, settings)
        for split in splits:
            loaded.data.part(split)
        objective = loaded.objective(**settings.matrix())
        theta = objective.parameters()
        evaluation = objective.evaluate(theta)
        loss, gradient = objective.loss_and_gradient(theta)
        _require_deterministic(evaluation.loss, loss, settings)
        check_loss(loaded, objective, evaluation, settings.split, comparable=settings.bn == "eval")
        preconditioner = None
        if settings.operator == "preconditioned":
            preconditioner = loaded.preconditioner()
            warn_of_batch_norm(objective.bn)
        scale = None if preconditioner is None else preconditioner.scale(objective.space)
        operator = operator_for(objective, theta, settings, planner, scale)
        meter = DataBarMeter(loaded, operator, settings)
        store = KrylovFile(state, search_identity(loaded, settings)) if state else None
        pairs = search(operator, settings, meter, store, warm) if settings.topk + settings.bottomk else None
        attempt = OptionalParts(loaded.runtime)
        if pairs is not None and vectors:
            attempt("The file of eigenvectors", partial(vectors_file.write, vectors, pairs, objective))
        more, spent = _more(loaded, operator, meter, pairs, settings, attempt)
        subject = loaded.subject()
        result = HessianResult(
            checkpoint=subject,
            conditions=loaded.conditions(operator.objective, settings.split, engine=operator.engine),
            operator=settings.operator,
            loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            gradient_norm=norm(gradient),
            **report.eigenvalue_fields(pairs),
            **more,
            products=sum(spent.values()),
            products_by_use={use: number for use, number in spent.items() if number},
            advice=report.advice(pairs, settings) if pairs else "",
            dead_parameters=dead_parameters(objective),
            **report.stability(subject, pairs, settings, preconditioner),
            preconditioner=None if preconditioner is None else report.preconditioner(preconditioner, objective.space, pairs),
            **record.fields(loaded.runtime, earlier_seconds=pairs.earlier_seconds if pairs else 0.0),
        )
    attempt.require_all(result)
    return result, None if pairs is None else pairs.vectors


def _more(
    loaded: LoadedCheckpoint,
    operator: CurvatureOperator,
    meter: DataBarMeter,
    pairs: Eigenpairs | None,
    settings: HessianSettings,
    attempt: OptionalParts,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the requested quantities beyond eigenvalues, as fields of the result, and the number of products for each use."""
    bar = meter.bar(pairs) if pairs else None
    moments = density = parts = None
    blocks = Blocks()
    if settings.trace:
        moments = attempt("The trace", lambda: spectrum.moments(operator, pairs, settings))
    if settings.has_density():
        density = attempt("The density", lambda: spectrum.density(operator, pairs, settings))
    if pairs and settings.ggn_split:
        parts = attempt("The split into GGN and rest", lambda: spectrum.parts(operator.objective, pairs))
    if pairs and settings.per_layer:
        room = vector_bytes(operator.objective, settings)
        found = partial(blocks_of, loaded, operator, pairs, settings, vectors=room)
        blocks = attempt("The table of layers", found) or blocks
    spent = {
        "lanczos": pairs.steps if pairs else 0,
        "confirmation": pairs.confirmations if pairs else 0,
        "verification": pairs.verifications if pairs else 0,
        "held-out samples": int(bar is not None and bar.held_out is not None),
        "trace": moments.products if moments else 0,
        "density": density.products if density else 0,
        "layers": blocks.products,
        "ggn split": int(parts is not None),
    }
    more = {"data_bar": bar, "moments": moments, "density": density, "parts": parts}
    return more | {"layers": blocks.layers, "block_distances": blocks.distances}, spent


def _require_deterministic(first: float, second: float, settings: HessianSettings) -> None:
    if abs(first - second) > _REPEATS[settings.dtype] * max(abs(first), 1e-3):
        raise InputError(
            f"The loss at the same weights and samples was {first:.6g}, then {second:.6g}: the model is not deterministic "
            "in eval mode, so it has no Hessian.",
            "Look for dropout or noise that ignores eval mode, such as functional.dropout without training=self.training, "
            "or for 16-bit numbers in forward, which round by 1e-3.",
        )
