"""The spectrum of a checkpoint's curvature: eigenvalues with certificates, and what else was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sharpcli import checkpoints, files, progress
from sharpcli.analyses import _layers, _report, _spectrum
from sharpcli.analyses._account import account
from sharpcli.analyses._data_bar import DataBarMeter
from sharpcli.analyses._opening import Opened, open_checkpoint
from sharpcli.analyses._optional import Attempts, one_by_one
from sharpcli.analyses._several import chosen_paths
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.planner import Planner
from sharpcli.errors import InputError, SettingsError
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import Eigenpairs, eigenpairs
from sharpcli.linalg.reductions import norm
from sharpcli.linalg.search import Wanted
from sharpcli.models._output import chosen_output
from sharpcli.objective import Objective
from sharpcli.results import HessianResult, Layer
from sharpcli.settings import HessianSettings, chosen

_MEMORY_SHARE = 0.4  # Of the free memory, for basis vectors.
_LEAST_SHARE = 8  # Of the memory given one such part goes to the samples that pass at once, whatever the vectors take.
_VECTORS = "sharpcli eigenvectors"  # Says what a file is.
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
    with _held(settings):
        return _analyse(checkpoint, settings, planner_for(settings), None)[0]


def hessian_all(
    places: Sequence[str | Path], settings: HessianSettings | None = None, **options: object
) -> list[HessianResult]:
    """Do what `hessian` does for several checkpoints, for all saved steps of runs, and for both splits.

    Along a run each search starts near the eigenvectors of the step before, which saves products.

    Raises:
        SharpcliError: As for `hessian`; also where one file cannot hold the vectors of several analyses.
        IncompleteError: One analysis has failed; it holds the results before.
    """
    settings = chosen(HessianSettings, settings, options)
    splits = ("train", "test") if settings.split == "both" else (settings.split,)
    files_of = [_saved(place) if settings.along_run else [Path(place)] for place in chosen_paths(places)]
    count = len(splits) * sum(map(len, files_of))
    if settings.vectors and count > 1:
        raise SettingsError("--vectors names one file, but there are several analyses.", "Write them one by one.")
    planner, warm = planner_for(settings), dict[tuple[int, str], Tensor | None]()

    def one(run: int, path: Path, split: str, place: str | None) -> HessianResult:
        single = replace(settings, split=split, along_run=False, state=place)
        result, vectors = _analyse(path, single, planner, warm.get((run, split)))
        warm[run, split] = vectors if settings.along_run else None
        return result

    wanted = [(run, path, split) for run, steps in enumerate(files_of) for path in steps for split in splits]
    with _held(settings):
        return one_by_one(
            [
                partial(one, *each, str(Path(settings.state) / str(number)) if settings.state and count > 1 else settings.state)
                for number, each in enumerate(wanted)
            ],
            "checkpoint" if len(splits) == 1 else "split",
        )


def _held(settings: HessianSettings) -> AbstractContextManager[None]:
    """Hold the folder of --state for this process alone."""
    return files.held(files.from_root(settings.state), "--state", folder=True) if settings.state else nullcontext()


def largest(
    objective: Objective,
    settings: HessianSettings,
    planner: Planner | None = None,
    *,
    theta: Tensor | None = None,
    warm: Tensor | None = None,
) -> Eigenpairs:
    """Run Lanczos on the objective's Hessian, by a planner that may have planned for others like it.

    Args:
        objective: f.
        settings: What to look for.
        planner: Default: a new one.
        theta: Where, shape (P,). Default: the objective's own weights.
        warm: Vectors (J, P) to start near to.

    Raises:
        SettingsError: More eigenvalues are asked for than there are parameters.
    """
    planner = planner or planner_for(settings)
    theta = objective.parameters() if theta is None else theta
    return _solve(_operator(objective, theta, settings, planner), settings, None, None, warm)


def planner_for(settings: HessianSettings) -> Planner:
    """Return a planner that knows what was asked for, to be used for several checkpoints."""
    return Planner(settings.engine, settings.compile, settings.batch_size)


def _analyse(
    path: str | Path, settings: HessianSettings, planner: Planner, warm: Tensor | None
) -> tuple[HessianResult, Tensor | None]:
    """Return the answer for one checkpoint and split, and the eigenvectors found."""
    # From the root: a model's code may change the working folder.
    state, vectors = (files.from_root(place) if place else None for place in (settings.state, settings.vectors))
    if vectors:
        _require_own(vectors)
    with account(settings) as book, progress.task("spectrum", parts=settings.parts()):
        opened = open_checkpoint(path, settings)
        objective = opened.objective(**settings.matrix())
        theta = objective.parameters()
        evaluation = objective.evaluate(theta)
        loss, gradient = objective.loss_and_gradient(theta)
        _require_deterministic(evaluation.loss, loss, settings)
        opened.check_loss(objective, evaluation, settings.split, comparable=settings.bn == "eval")
        operator = _operator(objective, theta, settings, planner)
        meter = DataBarMeter(opened, operator, settings)
        store = KrylovFile(state, _identity(opened, settings)) if state else None
        pairs = _solve(operator, settings, meter, store, warm) if settings.topk + settings.bottomk else None
        attempt = Attempts(opened.runtime)
        if pairs is not None and vectors:
            attempt("The file of eigenvectors", partial(_write_vectors, vectors, pairs, objective))
        more, spent = _more(opened, operator, meter, pairs, settings, attempt)
        subject = opened.subject()
        result = HessianResult(
            checkpoint=subject,
            conditions=opened.conditions(operator.objective, settings.split, engine=operator.engine),
            operator=settings.operator,
            loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            gradient_norm=norm(gradient),
            **_report.told(pairs),
            **more,
            products=sum(spent.values()),
            products_by_use={use: number for use, number in spent.items() if number},
            advice=_report.advice(pairs, settings) if pairs else "",
            dead_parameters=objective.dead_parameters(),
            **_report.stability(subject, pairs, settings),
            **book.entries(opened.runtime, earlier_seconds=pairs.earlier_seconds if pairs else 0.0),
        )
    attempt.require_all(result)
    return result, None if pairs is None else pairs.vectors


def _more(
    opened: Opened,
    operator: CurvatureOperator,
    meter: DataBarMeter,
    pairs: Eigenpairs | None,
    settings: HessianSettings,
    attempt: Attempts,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what was asked for beyond eigenvalues, as fields of the result, and the products each use has taken."""
    bar = meter.bar(pairs) if pairs else None
    moments = density = parts = None
    layers: tuple[Layer, ...] = ()
    if settings.trace:
        moments = attempt("The trace", lambda: _spectrum.moments(operator, pairs, settings))
    if settings.has_density():
        density = attempt("The density", lambda: _spectrum.density(operator, pairs, settings))
    if pairs and settings.ggn_split:
        parts = attempt("The split into GGN and rest", lambda: _spectrum.parts(operator.objective, pairs))
    if pairs and settings.per_layer:
        vectors, graphs = (of(operator.objective, settings) for of in (_vector_bytes, _graph_bytes))
        blocks = partial(_layers.blocks, opened, operator, pairs, settings, vectors=vectors, graphs=graphs)
        layers = attempt("The table of layers", lambda: tuple(blocks())) or ()
    spent = {
        "lanczos": pairs.steps if pairs else 0,
        "confirmation": pairs.confirmations if pairs else 0,
        "verification": pairs.verifications if pairs else 0,
        "held-out samples": int(bar is not None and bar.held_out is not None),
        "trace": moments.products if moments else 0,
        "density": density.products if density else 0,
        "layers": _layers.products(layers),
        "ggn split": int(parts is not None),
    }
    return {"data_bar": bar, "moments": moments, "density": density, "parts": parts, "layers": layers}, spent


def _operator(objective: Objective, theta: Tensor, settings: HessianSettings, planner: Planner) -> CurvatureOperator:
    products, left = settings.expected_products(), _graph_bytes(objective, settings)
    with progress.task("plan"):
        return planner.operator(settings.operator, objective, theta, products=products, memory=left)


def _graph_bytes(objective: Objective, settings: HessianSettings) -> int | None:
    """Return the memory for samples and kept graphs: what the vectors leave of what was given."""
    whole = settings.memory_bytes()
    return None if whole is None else max(whole - _vector_bytes(objective, settings), whole // _LEAST_SHARE)


def _vector_bytes(objective: Objective, settings: HessianSettings) -> int:
    """Return the memory for Lanczos vectors: what they are likely to need of what was given, or a share of what is free."""
    whole, runtime = settings.memory_bytes(), objective.runtime
    if whole is None:
        return int(_MEMORY_SHARE * runtime.free_memory())
    return min(
        whole, (2 * settings.expected_products() + settings.confirm) * objective.space.dimension * runtime.dtype.itemsize
    )


def _require_deterministic(first: float, second: float, settings: HessianSettings) -> None:
    if abs(first - second) > _REPEATS[settings.dtype] * max(abs(first), 1e-3):
        raise InputError(
            f"The loss at the same weights and samples was {first:.6g}, then {second:.6g}: the model is not deterministic "
            "in eval mode, so it has no Hessian.",
            "Look for dropout or noise that ignores eval mode, such as functional.dropout without training=self.training, "
            "or for 16-bit numbers in forward, which round by 1e-3.",
        )


def _solve(
    operator: CurvatureOperator,
    settings: HessianSettings,
    meter: DataBarMeter | None,
    store: KrylovFile | None,
    warm: Tensor | None = None,
) -> Eigenpairs:
    dimension = operator.shape[0]
    if settings.topk == HessianSettings.topk:  # What nobody asked for need not be there.
        settings = replace(settings, topk=min(settings.topk, dimension))
    for name, count in (("topk", settings.topk), ("bottomk", settings.bottomk)):
        if count > dimension:
            raise SettingsError(f"--{name} {count} is more than the {dimension} parameters.", f"Ask for at most {dimension}.")
    pairs = eigenpairs(
        operator,
        Wanted(settings.topk, settings.which, settings.bottomk),
        tolerance=settings.tol,
        max_products=settings.most_products(),
        max_seconds=settings.most_seconds(),
        memory=_vector_bytes(operator.objective, settings),
        seed=settings.seed,
        warm=warm,
        verify=settings.certify,
        confirm=settings.confirm,
        measure=meter.measure if meter else None,
        store=store,
    )
    pairs.trust.require_operator()
    return pairs


def _identity(opened: Opened, settings: HessianSettings) -> dict[str, object]:
    """Return what makes a search another one."""
    same = ("operator", "split", "samples", "seed", "dtype", "bn", "bn_block", "params", "model", "model_arg")
    everything, answered = settings.to_dict(), chosen_output(opened.model)
    return {
        "weights": opened.checkpoint.sha256(),
        "data": opened.data.fingerprint(),
        "loss": opened.loss,
        **({"output": answered} if answered else {}),
        **{name: everything[name] for name in same},
    }


def _require_own(path: Path) -> None:
    """Refuse to write eigenvectors over a file that holds anything else, such as the checkpoint itself.

    Raises:
        InputError: It is no file, such as a device.
        SettingsError: There is such a file.
    """
    files.destination(path)
    if path.is_file() and not files.safetensors_metadata(path).get("format") == _VECTORS:
        raise SettingsError(f"{path} exists already, and holds no eigenvectors.", "Choose another name for --vectors.")


def _write_vectors(path: Path, pairs: Eigenpairs, objective: Objective) -> None:
    """Write the eigenvectors (K, P), and each again as tensors in the shapes of the parameters."""
    tensors = {"eigenvalues": pairs.values, "eigenvectors": pairs.vectors.cpu().contiguous()}
    tensors["indices"] = torch.tensor(pairs.ranks)
    for rank, vector in zip(pairs.ranks, pairs.vectors.cpu(), strict=True):
        for name, part in objective.space.split(vector).items():
            tensors[f"{rank}/{name}"] = part.clone()
    files.write_bytes(path, save(tensors, metadata={"format": _VECTORS, "order": "\n".join(objective.space.names)}))


def _saved(place: str | Path) -> list[Path]:
    """Return the saved steps of a run in their order, with its final weights last; they are what --along-run goes along."""
    folder, final = Path(place), checkpoints.read(place)
    steps = checkpoints.saved_steps(folder, final)
    if not steps:
        raise InputError(
            f"{place} is no run folder with saved steps.", "Train with --save-every N, and name the folder of one mode."
        )
    return [step.path for step in steps]
