"""The curvature of each layer: the diagonal blocks of the matrix."""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.curvature.dead_parameters import dead_parameters
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.accuracy import Accuracy
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.estimates import exact, mean, widened
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.reductions import norm
from sharpcli.linalg.wanted import Wanted
from sharpcli.loading import LoadedCheckpoint
from sharpcli.results import Estimate, Layer
from sharpcli.runtime import generator
from sharpcli.settings import HessianSettings

_PROBES = 20


def blocks(
    loaded: LoadedCheckpoint,
    operator: CurvatureOperator,
    pairs: Eigenpairs,
    settings: HessianSettings,
    *,
    vectors: int | None,
    graphs: int | None,
) -> list[Layer]:
    """Return λmax and trace of each layer's diagonal block, and the layer's share of the first eigenvector.

    The traces of all blocks come from the same products: for random signs z, z_lᵀ(Hz)_l has the mean tr(H_ll).

    Args:
        loaded: The checkpoint.
        operator: The matrix of all parameters.
        pairs: Eigenpairs of this matrix.
        settings: Settings of the analysis.
        vectors: Bytes for the Lanczos vectors of a block; None for a share of the free memory.
        graphs: Bytes for the graphs of a block; None for a share of the free memory.
    """
    space = operator.objective.space
    slices = space.layer_slices()
    unused = {name for name, reason in dead_parameters(operator.objective).items() if reason == "unused"}
    top, tops, layers = pairs.vectors[0], dict[str, tuple[float, Tensor]](), []
    with progress.task("layer", total=len(slices)) as shown:
        for name, names in space.groups().items():
            share = float(top[slices[name]].double().square().sum())
            if unused.issuperset(names):  # The block is zero, because the loss does not depend on this layer.
                size = slices[name].stop - slices[name].start
                layers.append(
                    Layer(
                        name=name, num_parameters=size, lambda_max=0.0, residual=0.0, verdict="certified", trace=exact(0.0),
                        share=share, products=0, kind=_kind(loaded, name),
                    )
                )  # fmt: skip
                shown.advance(1)
                continue
            objective = loaded.objective(**settings.matrix() | {"params": tuple(glob.escape(own) for own in names)})
            objective = replace(objective, chunk_size=operator.objective.chunk_size)
            block = operator_of(
                settings.operator,
                objective,
                objective.parameters(),
                memory=graphs,
                engine=operator.engine_name,
                scale=None if operator.scale is None else operator.scale[slices[name]],
            )
            own = eigenpairs(
                block,
                Wanted(1),
                tolerance=settings.tol,
                max_products=settings.most_products(),
                max_seconds=settings.most_seconds(),
                seed=settings.seed,
                memory=vectors,
            )
            tops[name] = float(own.values[0]), own.vectors[0]
            layers.append(
                Layer(
                    name=name,
                    num_parameters=block.shape[0],
                    lambda_max=float(own.values[0]),
                    residual=float(own.residuals[0]),
                    verdict=own.verdicts[0],
                    trace=exact(0.0),  # Replaced below, because all traces are computed together.
                    share=share,
                    products=own.steps + own.verifications,
                    kind=_kind(loaded, name),
                )
            )
            shown.advance(1)
    traces = _traces(operator, slices, tops, settings.seed)
    return [replace(layer, trace=traces[layer.name]) if layer.name in tops else layer for layer in layers]


def _kind(loaded: LoadedCheckpoint, name: str) -> str:
    """Return the class of a layer; "" if no module has this name, as in a model that renames its parameters."""
    return next((type(module).__name__ for own, module in loaded.model.named_modules() if own == name), "")


def products(layers: Sequence[Layer]) -> int:
    """Return the number of products for all blocks, including those for the traces."""
    return sum(layer.products for layer in layers) + (_PROBES if layers else 0)


def _traces(
    operator: CurvatureOperator, slices: dict[str, slice], tops: dict[str, tuple[float, Tensor]], seed: int
) -> dict[str, Estimate]:
    """Estimate the traces of blocks whose first eigenpairs (λ, u) are known.

    λ ((zᵀu)² - 1) has mean zero and contains most of the variance of an outlier, so it is subtracted.
    """
    random, samples, accuracy = generator(seed, streams.LAYER_PROBES), dict[str, list[float]](), Accuracy(operator)
    length = math.sqrt(operator.shape[0])
    with progress.task("traces of layers", total=_PROBES, units="products") as shown:
        for _ in range(_PROBES):
            signs = torch.randint(0, 2, (operator.shape[0],), generator=random) * 2.0 - 1
            signs = signs.to(operator.dtype).to(operator.device)
            product = operator @ signs
            accuracy.see(signs / length, product / length, norm(product) / length)
            forms = _piecewise(signs, product, slices)
            for name, (value, vector) in tops.items():
                chance = float(signs[slices[name]].double() @ vector.double()) ** 2 - 1
                samples.setdefault(name, []).append(forms[name] - value * chance)
            shown.advance()
    sizes = {name: piece.stop - piece.start for name, piece in slices.items()}
    return {name: widened(mean(numpy.array(values)), sizes[name] * accuracy.error) for name, values in samples.items()}


def _piecewise(first: Tensor, second: Tensor, slices: dict[str, slice]) -> dict[str, float]:
    return {name: float(first[piece].double() @ second[piece].double()) for name, piece in slices.items()}
