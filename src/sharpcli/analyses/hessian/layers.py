"""The curvature of each layer, or of another part of the parameters: the diagonal blocks of the matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.analyses.hessian import spectrum
from sharpcli.analyses.hessian.partition import partition
from sharpcli.curvature.blocks import Block, BlockOperator
from sharpcli.curvature.dead_parameters import dead_parameters
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.linalg.accuracy import Accuracy
from sharpcli.linalg.block_densities import Known, block_densities
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.estimates import exact, mean, widened
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.reductions import norm
from sharpcli.linalg.spectral_density import SpectralDensity
from sharpcli.linalg.spectral_distance import distances
from sharpcli.linalg.wanted import Wanted
from sharpcli.loading import LoadedCheckpoint
from sharpcli.results import BlockDistances, Estimate, Layer
from sharpcli.runtime import generator
from sharpcli.settings import HessianSettings

_PROBES = 20
# Blur of densities for their distance, a factor of 1.6. With the 0.12 of the figures, the same block with other probes was at
# three quarters of the distance of two blocks (docs/findings.md).
_BLUR = 0.5


class Blocks(NamedTuple):
    """The diagonal blocks of a matrix.

    Attributes:
        layers: One for each block.
        distances: Between their densities, if there are densities and at least two blocks.
        products: Number of products: those for single blocks, and the passes in which all blocks take part.
    """

    layers: tuple[Layer, ...] = ()
    distances: BlockDistances | None = None
    products: int = 0


class _Found(NamedTuple):
    """A block with its first eigenpair."""

    block: Block
    operator: BlockOperator
    pairs: Eigenpairs


def blocks_of(
    loaded: LoadedCheckpoint,
    operator: CurvatureOperator,
    pairs: Eigenpairs,
    settings: HessianSettings,
    *,
    vectors: int | None,
) -> Blocks:
    """Return λmax and trace of each diagonal block, its share of the first eigenvector, and its density if requested.

    Without densities, the traces of all blocks come from the same products: for random signs z, z_bᵀ(Hz)_b has the mean
    tr(H_bb). With densities, they are their first moments.

    Args:
        loaded: The checkpoint.
        operator: The matrix of all parameters.
        pairs: Eigenpairs of this matrix.
        settings: Settings of the analysis.
        vectors: Bytes for the Lanczos vectors of a block; None for a share of the free memory.
    """
    objective = operator.objective
    unused = {name for name, reason in dead_parameters(objective).items() if reason == "unused"}
    every, found, before = partition(settings.blocks, objective), dict[str, _Found](), operator.products
    with progress.task("layer", total=len(every)) as shown:
        for block in every:
            if not unused.issuperset(block.tensors):
                own = BlockOperator(operator, block)
                found[block.name] = _Found(block, own, _first(own, settings, vectors))
            shown.advance(1)
    densities = _densities(operator, found, settings) if settings.has_density() else {}
    traces = {} if densities else _traces(operator, found, settings.seed)
    linear = spectrum.linear_width(densities.values())
    layers = tuple(
        Layer(
            name=block.name,
            num_parameters=block.size(objective.space),
            share=float(block.take(pairs.vectors[0], objective.space).double().square().sum()),
            kind=_kind(loaded, block.name),
            **_first_pair(found.get(block.name)),
            **(
                _of_density(densities[block.name], settings, linear)
                if block.name in densities
                else {"trace": traces.get(block.name, exact(0.0))}
            ),
        )
        for block in every
    )
    return Blocks(layers, _distances(densities, linear), operator.products - before)


def _first(own: BlockOperator, settings: HessianSettings, vectors: int | None) -> Eigenpairs:
    return eigenpairs(
        own,
        Wanted(1),
        tolerance=settings.tol,
        max_products=settings.most_products(),
        max_seconds=settings.most_seconds(),
        seed=settings.seed,
        memory=vectors,
    )


def _first_pair(found: _Found | None) -> dict[str, Any]:
    """Return the fields of a layer from its first eigenpair; without one, the loss does not depend on it: the block is 0."""
    if found is None:
        return {"lambda_max": 0.0, "residual": 0.0, "verdict": "certified", "products": 0}
    pairs = found.pairs
    return {
        "lambda_max": float(pairs.values[0]),
        "residual": float(pairs.residuals[0]),
        "verdict": pairs.verdicts[0],
        "products": pairs.steps + pairs.verifications + pairs.confirmations,
    }


def _kind(loaded: LoadedCheckpoint, name: str) -> str:
    """Return the class of a layer; "" if no module has this name, as in a model that renames its parameters."""
    return next((type(module).__name__ for own, module in loaded.model.named_modules() if own == name), "")


def _densities(operator: CurvatureOperator, found: dict[str, _Found], settings: HessianSettings) -> dict[str, SpectralDensity]:
    """Return the density of each block, by name; its first eigenvalue is deflated if it is certified."""
    every = list(found.values())

    def multiply(places: Sequence[int], vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        return operator.blockwise([every[place].block for place in places], vectors)

    made, _ = block_densities(
        multiply,
        [one.operator for one in every],
        [_known(one.pairs) for one in every],
        probes=settings.probes,
        steps=settings.density_steps,
        seed=settings.seed,
    )
    return dict(zip(found, made, strict=True))


def _known(pairs: Eigenpairs) -> Known:
    kept = [place for place, good in enumerate(pairs.converged) if good]
    return Known(pairs.values[kept].numpy(), pairs.vectors[kept], pairs.trust.noise + pairs.trust.rounding)


def _of_density(density: SpectralDensity, settings: HessianSettings, linear: float) -> dict[str, Any]:
    """Return the fields of a layer that come from its density."""
    return {
        "trace": density.moment(1).times(density.dimension),
        "effective_rank": density.effective_rank(),
        "density": spectrum.drawn(density, settings, linear),
    }


def _distances(densities: dict[str, SpectralDensity], linear: float) -> BlockDistances | None:
    if len(densities) < 2:
        return None
    matrix, halves = distances(list(densities.values()), linear, _BLUR)
    pairs = matrix[numpy.tril_indices(len(matrix), -1)]
    return BlockDistances(
        names=tuple(densities),
        distances=tuple(map(tuple, matrix.tolist())),
        halves=tuple(halves.tolist()),
        mean=float(pairs.mean()),
        mean_of_halves=float(halves.mean()),
        linear_width=linear,
        width=_BLUR,
    )


def _traces(operator: CurvatureOperator, found: dict[str, _Found], seed: int) -> dict[str, Estimate]:
    """Estimate the traces of blocks whose first eigenpairs (λ, u) are known.

    λ ((zᵀu)² - 1) has mean zero and contains most of the variance of an outlier, so it is subtracted.
    """
    random, samples, accuracy = generator(seed, streams.LAYER_PROBES), dict[str, list[float]](), Accuracy(operator)
    length, space = math.sqrt(operator.shape[0]), operator.objective.space
    with progress.task("traces of layers", total=_PROBES, units="products") as shown:
        for _ in range(_PROBES):
            signs = torch.randint(0, 2, (operator.shape[0],), generator=random) * 2.0 - 1
            signs = signs.to(operator.dtype).to(operator.device)
            product = operator @ signs
            accuracy.see(signs / length, product / length, norm(product) / length)
            for name, (block, _, pairs) in found.items():
                own, image = (block.take(vector, space).double() for vector in (signs, product))
                chance = float(own @ pairs.vectors[0].double()) ** 2 - 1
                samples.setdefault(name, []).append(float(own @ image) - float(pairs.values[0]) * chance)
            shown.advance()
    sizes = {name: one.operator.shape[0] for name, one in found.items()}
    return {name: widened(mean(numpy.array(values)), sizes[name] * accuracy.error) for name, values in samples.items()}
