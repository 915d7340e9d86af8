"""The search for eigenvalues of an objective's curvature matrix: its operator, its memory, and its Lanczos run."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sharpcli import progress
from sharpcli.analyses.hessian.data_bar import DataBarMeter
from sharpcli.checkpoints import state_sha256
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.planner import Planner
from sharpcli.errors import SettingsError
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.stopping import LOOSEST_TOLERANCE
from sharpcli.linalg.wanted import Wanted
from sharpcli.loading import LoadedCheckpoint
from sharpcli.memory import MemoryPlan
from sharpcli.models.output import chosen_output
from sharpcli.objective import Objective
from sharpcli.processes import SOLO
from sharpcli.settings import HessianSettings


def largest(
    objective: Objective,
    settings: HessianSettings,
    planner: Planner | None = None,
    *,
    theta: Tensor | None = None,
    warm: Tensor | None = None,
    scale: Tensor | None = None,
) -> Eigenpairs:
    """Run Lanczos on the curvature matrix of an objective; the planner may have been used for similar objectives.

    Args:
        objective: Mean loss f.
        settings: Settings of the search, which name the matrix.
        planner: Default: a new planner.
        theta: Weights at which the matrix is computed, shape (P,). Default: the weights of the objective.
        warm: Vectors (J, P); the search starts near them.
        scale: The diagonal of P^{-1/2}, shape (P,), for the preconditioned Hessian.

    Raises:
        SharpcliError: See `search`.
    """
    planner = planner or planner_for(settings)
    theta = objective.parameters() if theta is None else theta
    return search(operator_for(objective, theta, settings, planner, scale), settings, None, None, warm)


def planner_for(settings: HessianSettings) -> Planner:
    """Return a planner for these settings, which can be used for several checkpoints."""
    return Planner(settings.engine, settings.compile, settings.chunk_size)


def operator_for(
    objective: Objective, theta: Tensor, settings: HessianSettings, planner: Planner, scale: Tensor | None = None
) -> CurvatureOperator:
    """Return the operator that the settings name, with the engine that the planner chose.

    Args:
        objective: Mean loss over data.
        theta: Shape (P,).
        settings: Settings of the search.
        planner: Chooses the engine.
        scale: The diagonal of P^{-1/2}, shape (P,), for the preconditioned Hessian.
    """
    products, left = settings.expected_products(), graph_bytes(objective, settings)
    with progress.task("plan"):
        return planner.operator(settings.operator, objective, theta, products=products, memory=left, scale=scale)


def graph_bytes(objective: Objective, settings: HessianSettings) -> int | None:
    """Return the number of bytes for all graphs of a product if `--memory` is given, else None."""
    return _plan(objective, settings).graphs(_needed_for_vectors(objective, settings))


def vector_bytes(objective: Objective, settings: HessianSettings) -> int:
    """Return the number of bytes for Lanczos vectors: with several processes, what the one with the least memory has."""
    return objective.processes.least(_plan(objective, settings).vectors(_needed_for_vectors(objective, settings)))


def _plan(objective: Objective, settings: HessianSettings) -> MemoryPlan:
    return MemoryPlan(objective.runtime.device, settings.memory_bytes())


def _needed_for_vectors(objective: Objective, settings: HessianSettings) -> int:
    """Return the bytes that Lanczos vectors take if the search needs twice the expected number of products."""
    count = 2 * settings.expected_products() + settings.confirm
    return count * objective.space.dimension * objective.runtime.dtype.itemsize


def search(
    operator: CurvatureOperator,
    settings: HessianSettings,
    meter: DataBarMeter | None,
    store: KrylovFile | None,
    warm: Tensor | None = None,
) -> Eigenpairs:
    """Run Lanczos with these settings.

    Args:
        operator: The curvature matrix, of shape (P, P).
        settings: Number of eigenpairs, end of the spectrum, and tolerance.
        meter: Verifies the first eigenpair by a product over groups of samples, for the error bar of the data; or None.
        store: File that stores the search, so that it can be resumed; or None.
        warm: Vectors (J, P); the search starts near them.

    Raises:
        SettingsError: More eigenvalues are requested than there are parameters.
        InputError: Products of the same vector differ each time.
        NumericalError: Too few digits of the products are correct.
    """
    dimension = operator.shape[0]
    if settings.topk == HessianSettings.topk:  # The default may be larger than P.
        settings = replace(settings, topk=min(settings.topk, dimension))
    for name, count in (("topk", settings.topk), ("bottomk", settings.bottomk)):
        if count > dimension:
            raise SettingsError(f"--{name} {count} is more than the {dimension} parameters.", f"Ask for at most {dimension}.")
    if settings.tol > LOOSEST_TOLERANCE:
        progress.warn(
            f"--tol {settings.tol:g} counts as {LOOSEST_TOLERANCE:g}: with a larger residual, no eigenvalue is certain."
        )
    memory, processes = vector_bytes(operator.objective, settings), operator.objective.processes
    pairs = eigenpairs(
        operator,
        Wanted(settings.topk, settings.which, settings.bottomk),
        tolerance=settings.tol,
        max_products=settings.most_products(),
        max_seconds=settings.most_seconds(),
        memory=memory,
        seed=settings.seed,
        warm=warm,
        verify=settings.certify,
        confirm=settings.confirm,
        measure=meter.measure if meter else None,
        store=store,
        divided=processes if memory < _needed_for_vectors(operator.objective, settings) else SOLO,
    )
    pairs.trust.require_operator()
    return pairs


def search_identity(loaded: LoadedCheckpoint, settings: HessianSettings) -> dict[str, object]:
    """Return the values that identify a search; a saved search is continued only if all of them are equal."""
    same = ("operator", "split", "samples", "seed", "dtype", "bn", "bn_block", "params", "model", "model_arg")
    everything, answered = settings.to_dict(), chosen_output(loaded.model)
    adaptive = settings.operator == "preconditioned"
    return {
        "weights": loaded.checkpoint.sha256(),
        "data": loaded.data.fingerprint(),
        "loss": loaded.loss,
        **({"output": answered} if answered else {}),
        **({"preconditioner": state_sha256(loaded.preconditioner().parts)} if adaptive else {}),
        **{name: everything[name] for name in same},
    }
