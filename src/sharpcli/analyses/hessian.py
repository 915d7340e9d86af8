"""The spectrum of a checkpoint's curvature: eigenvalues with certificates, and what else was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sharpcli import checkpoints, files
from sharpcli.analyses import _layers, _spectrum
from sharpcli.analyses._account import account
from sharpcli.analyses._data_bar import DataBarMeter
from sharpcli.analyses._opening import Opened, open_checkpoint
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError, SettingsError
from sharpcli.linalg.ceiling import PROBABILITY
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import Eigenpairs, eigenpairs
from sharpcli.linalg.reductions import norm
from sharpcli.linalg.search import Wanted
from sharpcli.objective import Objective
from sharpcli.results import Bound, Eigenvalue, HessianResult, Subject
from sharpcli.settings import HessianSettings, chosen

_MEMORY_SHARE = 0.4  # Of the free memory, for basis vectors.
_REPEATS = {"float32": 1e-5, "float64": 1e-9}  # Relative difference of two losses at the same weights that is rounding.


def hessian(checkpoint: str | Path, settings: HessianSettings | None = None, **options: object) -> HessianResult:
    """Find eigenvalues of the Hessian of the mean loss, each with residual, interval and verdict.

    Args:
        checkpoint: File, or run folder.
        settings: What to do, for one split; `hessian_all` does several checkpoints and both splits.
        **options: Its fields, in place of settings, such as `hessian("a.pt", topk=20)`.

    Returns:
        What was asked for. Not reaching the tolerance is told in verdicts and `advice`, not raised.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`. An operator that is not
            deterministic is an InputError.

    References:
        Pearlmutter 1994 (products); Golub and Van Loan, section 10.1 (Lanczos); docs/trust.md (verdicts).
    """
    settings = chosen(HessianSettings, settings, options)
    if settings.split == "both" or settings.along_run:
        raise SettingsError("hessian() answers for one checkpoint and one split.", "Use hessian_all() for several.")
    return _analyse(checkpoint, settings, None)[0]


def hessian_all(
    places: Sequence[str | Path], settings: HessianSettings | None = None, **options: object
) -> list[HessianResult]:
    """Do what `hessian` does for several checkpoints, for all saved steps of runs, and for both splits.

    Along a run each search starts near the eigenvectors of the step before, which saves products.

    Raises:
        SharpcliError: As for `hessian`; also where one file cannot hold the vectors of several analyses.
    """
    settings = chosen(HessianSettings, settings, options)
    splits = ("train", "test") if settings.split == "both" else (settings.split,)
    files_of = [_saved(place) if settings.along_run else [Path(place)] for place in places]
    count = len(splits) * sum(map(len, files_of))
    if settings.vectors and count > 1:
        raise SettingsError("--vectors names one file, but there are several analyses.", "Write them one by one.")
    results: list[HessianResult] = []
    for steps in files_of:
        warm: dict[str, Tensor | None] = {}
        for path in steps:
            for split in splits:
                state = settings.state and (str(Path(settings.state) / str(len(results))) if count > 1 else settings.state)
                one = replace(settings, split=split, along_run=False, state=state)
                result, vectors = _analyse(path, one, warm.get(split))
                warm[split] = vectors if settings.along_run else None
                results.append(result)
    return results


def largest(objective: Objective, settings: HessianSettings) -> Eigenpairs:
    """Run Lanczos on the objective's Hessian at its own weights.

    Raises:
        SettingsError: More eigenvalues are asked for than there are parameters.
    """
    return _solve(_operator(objective, objective.parameters(), settings), settings, None, None)


def _analyse(path: str | Path, settings: HessianSettings, warm: Tensor | None) -> tuple[HessianResult, Tensor | None]:
    """Return the answer for one checkpoint and split, and the eigenvectors found."""
    with account(settings) as book:
        opened = open_checkpoint(path, settings)
        objective = opened.objective(**_of_interest(settings))
        theta = objective.parameters()
        evaluation = objective.evaluate(theta)
        opened.check_loss(evaluation, settings.split, comparable=settings.bn == "eval")
        loss, gradient = objective.loss_and_gradient(theta)
        _require_deterministic(evaluation.loss, loss, settings)
        operator = _operator(objective, theta, settings)
        meter = DataBarMeter(opened, operator, settings)
        store = KrylovFile(Path(settings.state), _identity(opened, settings)) if settings.state else None
        pairs = _solve(operator, settings, meter, store, warm) if settings.topk + settings.bottomk else None
        if pairs is not None and settings.vectors:
            _write_vectors(Path(settings.vectors), pairs, objective)
        uses = (
            {"lanczos": pairs.steps, "confirmation": pairs.confirmations, "verification": pairs.verifications} if pairs else {}
        )
        bar = meter.bar(pairs) if pairs else None
        uses["held-out samples"] = int(bar is not None and bar.held_out is not None)
        moments = _spectrum.moments(operator, pairs, settings) if settings.trace else None
        density = _spectrum.density(operator, pairs, settings) if settings.has_density() else None
        parts = _spectrum.parts(objective, theta, pairs) if settings.ggn_split and pairs else None
        layers = _layers.blocks(opened, operator, pairs, settings) if settings.per_layer and pairs else ()
        uses["trace"], uses["density"] = (part.products if part else 0 for part in (moments, density))
        uses["layers"], uses["ggn split"] = _layers.products(layers), 1 if parts else 0
        subject = opened.subject()
        result = HessianResult(
            checkpoint=subject,
            conditions=opened.conditions(objective, settings.split, engine=operator.engine),
            operator=settings.operator,
            loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            gradient_norm=norm(gradient),
            **_told(pairs, settings),
            data_bar=bar,
            products=sum(uses.values()),
            products_by_use={use: number for use, number in uses.items() if number},
            advice=_advice(pairs, settings) if pairs else "",
            moments=moments,
            density=density,
            parts=parts,
            layers=tuple(layers),
            dead_parameters=objective.dead_parameters(),
            **_stability(subject, pairs, settings),
            **book.entries(opened.runtime),
        )
    return result, None if pairs is None else pairs.vectors


def _of_interest(settings: HessianSettings) -> dict[str, Any]:
    """Return what of the settings makes another objective."""
    return {"bn": settings.bn, "bn_block": settings.bn_block, "params": settings.params}


def _operator(objective: Objective, theta: Tensor, settings: HessianSettings) -> CurvatureOperator:
    return operator_of(settings.operator, objective, theta, engine=settings.engine, compiled=settings.compile == "on")


def _require_deterministic(first: float, second: float, settings: HessianSettings) -> None:
    if abs(first - second) > _REPEATS[settings.dtype] * max(abs(first), 1e-3):
        raise InputError(
            f"The loss at the same weights and samples was {first:.6g}, then {second:.6g}: the model is not deterministic "
            "in eval mode, so it has no Hessian.",
            "Look for dropout or noise that ignores eval mode, such as functional.dropout without training=self.training.",
        )


def _solve(
    operator: CurvatureOperator,
    settings: HessianSettings,
    meter: DataBarMeter | None,
    store: KrylovFile | None,
    warm: Tensor | None = None,
) -> Eigenpairs:
    dimension = operator.shape[0]
    for name, count in (("topk", settings.topk), ("bottomk", settings.bottomk)):
        if count > dimension:
            raise SettingsError(f"--{name} {count} is more than the {dimension} parameters.", f"Ask for at most {dimension}.")
    memory = settings.memory_bytes()
    pairs = eigenpairs(
        operator,
        Wanted(settings.topk, settings.which, settings.bottomk),
        tolerance=settings.tol,
        max_products=settings.most_products(),
        max_seconds=None if settings.max_minutes is None else 60 * settings.max_minutes,
        memory=int(_MEMORY_SHARE * operator.objective.runtime.free_memory()) if memory is None else memory,
        seed=settings.seed,
        warm=warm,
        verify=settings.certify,
        confirm=settings.confirm,
        measure=meter.measure if meter else None,
        store=store,
    )
    if pairs.trust.is_random:
        raise InputError(
            f"There is nothing to certify: {pairs.trust.refusal}.",
            "Look for dropout or noise that ignores eval mode, or for kernels that are not deterministic.",
        )
    return pairs


def _told(pairs: Eigenpairs | None, settings: HessianSettings) -> dict[str, Any]:
    """Return what the search itself has to tell, as fields of the result."""
    if pairs is None:
        names = ("lambda_max", "index_probability", "ceiling", "floor", "noise_floor", "rounding", "orthogonality")
        return {**dict.fromkeys(names), "eigenvalues": (), "ended": "", "converged": True, "residual_history": ()}
    values = dict(zip(pairs.ranks, pairs.values.tolist(), strict=True))
    return {
        "eigenvalues": tuple(_listed(pairs, settings.tol)),
        "index_probability": pairs.index_probability,
        "lambda_max": values.get(1),
        "ceiling": Bound(value=pairs.ceiling, probability=PROBABILITY),
        "floor": Bound(value=pairs.floor, probability=PROBABILITY),
        "noise_floor": pairs.trust.noise,
        "rounding": pairs.trust.rounding,
        "orthogonality": pairs.trust.orthogonality,
        "ended": pairs.ended,
        "converged": all(pairs.converged),
        "residual_history": pairs.history,
    }


def _listed(pairs: Eigenpairs, tolerance: float) -> Iterator[Eigenvalue]:
    for place, verdict in enumerate(pairs.verdicts):
        low, high = pairs.by_index[place]
        narrow = high - low <= 2 * (tolerance * abs(float(pairs.values[place])) + pairs.trust.noise + pairs.trust.rounding)
        yield Eigenvalue(
            index=pairs.ranks[place],
            value=float(pairs.values[place]),
            residual=float(pairs.residuals[place]),
            interval=None if verdict == "refused" else pairs.interval(place),
            verdict=verdict,
            verified=pairs.verified[place],
            index_interval=(low, high) if verdict != "refused" and math.isfinite(high - low) else None,
            index_confirmed=verdict != "refused" and narrow,
        )


def _advice(pairs: Eigenpairs, settings: HessianSettings) -> str:
    if all(pairs.converged) and len(pairs.verdicts) == settings.topk + settings.bottomk:
        return ""
    if "refused" in pairs.verdicts:
        return f"Nothing is certified: {pairs.trust.refusal}."
    if "budget-limited" in pairs.verdicts:
        what = {"products": "--max-hvp", "seconds": "--max-minutes"}.get(pairs.ended, "--max-hvp or --memory")
        count = pairs.verdicts.count("budget-limited")
        kept = " (with --state the same search goes on)" if not settings.state else ""
        return f"{count} residuals are above tolerance after {pairs.steps} products: raise {what}{kept}."
    other = ": try --dtype float64" if settings.dtype == "float32" else ", and more products would not help"
    count = pairs.verdicts.count("noise-limited")
    return f"{count} intervals are as narrow as the noise of {settings.dtype} products allows{other}."


def _stability(subject: Subject, pairs: Eigenpairs | None, settings: HessianSettings) -> dict[str, Any]:
    """Return 2/lr and its like; they are about the Hessian of all parameters of plain descent, and mean nothing else."""
    applies = settings.operator == "hessian" and not settings.params and subject.optimizer == "sgd"
    rates = (subject.learning_rate, subject.last_learning_rate)
    peak, last = (2 / rate if rate and applies else None for rate in rates)
    momentum = subject.momentum or 0
    top = None if pairs is None else dict(zip(pairs.ranks, pairs.values.tolist(), strict=True)).get(1)
    return {
        "learning_rate": subject.learning_rate,
        "last_learning_rate": subject.last_learning_rate,
        "stability_threshold": peak,
        "last_stability_threshold": last,
        # Descent with Nesterov momentum β is stable on a quadratic below 2 (1+β) / ((1+2β) lr).
        "momentum_threshold": None if peak is None else peak * (1 + momentum) / (1 + 2 * momentum),
        "sharpness_ratio": None if peak is None or top is None else top / peak,
    }


def _identity(opened: Opened, settings: HessianSettings) -> dict[str, object]:
    """Return what makes a search another one."""
    same = ("operator", "split", "samples", "seed", "dtype", "bn", "bn_block", "params", "model", "model_arg")
    everything = settings.to_dict()
    return {
        "weights": opened.checkpoint.sha256(),
        "data": opened.data.fingerprint(),
        "loss": opened.loss,
        **{name: everything[name] for name in same},
    }


def _write_vectors(path: Path, pairs: Eigenpairs, objective: Objective) -> None:
    """Write the eigenvectors (K, P), and each again as tensors in the shapes of the parameters."""
    tensors = {"eigenvalues": pairs.values, "eigenvectors": pairs.vectors.cpu().contiguous()}
    tensors["indices"] = torch.tensor(pairs.ranks)
    for rank, vector in zip(pairs.ranks, pairs.vectors.cpu(), strict=True):
        for name, part in objective.space.split(vector).items():
            tensors[f"{rank}/{name}"] = part.clone()
    files.write_bytes(
        path, save(tensors, metadata={"format": "sharpcli eigenvectors", "order": "\n".join(objective.space.names)})
    )


def _saved(place: str | Path) -> list[Path]:
    """Return the saved steps of a run in their order, with its final weights last; they are what --along-run goes along."""
    folder, final = Path(place), checkpoints.read(place)
    steps = checkpoints.saved_steps(folder, final)
    if not steps:
        raise InputError(
            f"{place} is no run folder with saved steps.", "Train with --save-every N, and name the folder of one mode."
        )
    return [step.path for step in steps]
