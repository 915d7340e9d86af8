"""The answer of `hessian` as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.folding import unbroken
from sharpcli.render.labels import BLOCKS, MATRICES, distinct, threshold_name
from sharpcli.render.tables.parts import Part, between_bounds, conditions_line, dim, few, heading, new_table, number
from sharpcli.results import BlockDistances, DataBar, Density, Eigenvalue, Estimate, HessianResult, Moments, Parts

_USES = {"lanczos": "Lanczos", "ggn split": "Gauss-Newton split"}
_TITLES = {"LM": "Eigenvalues of largest magnitude", "SA": "Smallest eigenvalues"}
_EXCLUDED = ("not selected", "frozen", "tied")  # Reasons why a parameter is not part of θ.
_NEGLIGIBLE = 1e-5  # Relative width of an interval that six digits do not show.
_STYLES = {"certified": "", "noise-limited": "yellow", "budget-limited": "yellow", "refused": "red"}


def draw_hessian(result: HessianResult) -> list[Part]:
    """Return the tables and sentences of one result, the most important first."""
    letter = MATRICES[result.operator][1]
    lines: list[Part] = []
    if result.eigenvalues:
        lines.append(_eigenvalues(result))
    else:
        lines.append(Text(f"Curvature: {_subject(result)}", style="bold"))
    lines.append(conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm))
    lines += [dim(text) for text in (*_trust(result), _data(result.data_bar, letter), *_stability(result)) if text]
    if result.parts:
        lines.append(Text(_split(result.parts)))
    if result.moments:
        lines += _moments(result.moments, letter)
    if result.density:
        lines += _density(result.density, result.conditions.num_parameters)
    if result.layers:
        lines.append(_layers(result))
        lines += _block_distances(result)
        lines.append(dim("share of v1: fraction of ‖v₁‖² in the block, where v₁ is the first eigenvector of the full matrix"))
    if result.dead_parameters:
        lines += [dim(text) for text in _without_curvature(result.dead_parameters)]
    if vectors := result.settings.get("vectors"):
        lines.append(Text(f"Eigenvectors written to {unbroken(vectors)}"))
    lines.append(dim(_effort(result)))
    if result.advice:
        lines.append(Text(result.advice, style="yellow"))
    return [*lines, Text()]


def draw_side_by_side(results: Sequence[HessianResult]) -> list[Part]:
    """Return a table with one row per result, for several splits, checkpoints or steps."""
    table = new_table(
        "Side by side",
        "checkpoint",
        "step",
        "split",
        "loss",
        "lambda max",
        "interval",
        "verdict",
        " or ".join(dict.fromkeys(threshold_name(result) for result in results)),
        "trace",
        "products",
    )
    for name, result in zip(distinct([result.checkpoint for result in results]), results, strict=True):
        top = next((eigenvalue for eigenvalue in result.eigenvalues if eigenvalue.index == 1), None)
        table.add_row(
            name,
            number(result.checkpoint.step),
            result.conditions.split,
            number(result.loss),
            "–" if top is None else _with_interval(top.value, top.interval)[0],
            "–" if top is None else _with_interval(top.value, top.interval)[1],
            top.verdict if top else "–",
            number(result.stability_threshold),
            _estimate(result.moments.trace) if result.moments else "–",
            str(result.products),
        )
    return [table, Text()]


def _eigenvalues(result: HessianResult) -> Part:
    table = new_table(
        f"{_TITLES.get(str(result.settings.get('which')), 'Eigenvalues')} of {_subject(result)}",
        "index", "value", "interval", "residual", "verdict",
    )  # fmt: skip
    for eigenvalue in result.eigenvalues:
        table.add_row(
            _index(eigenvalue),
            *_with_interval(eigenvalue.value, eigenvalue.interval),
            f"{eigenvalue.residual:.1e}" + ("" if eigenvalue.verified else "*"),
            Text(eigenvalue.verdict, style=_STYLES[eigenvalue.verdict]),
        )
    return table


def _subject(result: HessianResult) -> str:
    """Return the name of the matrix, the selected block and the checkpoint."""
    globs = ", ".join(f"'{unbroken(glob)}'" for glob in result.settings.get("params", ()))
    block = f"the block {globs} of " if globs else ""
    return f"{block}the {MATRICES[result.operator][0]} of {heading(result.checkpoint)}"


def _index(eigenvalue: Eigenvalue) -> str:
    """Return the index of an eigenvalue: "3" if it is confirmed, "3 to 5" if it is bounded, "3?" if it is not."""
    if eigenvalue.index_confirmed:
        return str(eigenvalue.index)
    if eigenvalue.index_range is None or eigenvalue.index_range[1] is None:
        return f"{eigenvalue.index}?"
    return f"{eigenvalue.index_range[0]} to {eigenvalue.index_range[1]}"


def _bound(value: float, digits: int, *, above: bool) -> str:
    """Return a bound with this number of digits, rounded outwards so that it still holds."""
    text = f"{value:.{digits}g}"
    if not math.isfinite(value) or (float(text) >= value if above else float(text) <= value):
        return text
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return f"{float(text) + (unit if above else -unit):.{digits}g}"


def _with_interval(value: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """Return a value with the digits that its interval determines, and the half-width of the interval, rounded up."""
    if interval is None:
        return f"{value:.6g}", "–"
    radius = max(value - interval[0], interval[1] - value)
    if radius <= 0:
        return f"{value:.10g}", "0"
    exponent = math.floor(math.log10(radius))
    half = math.ceil(radius / 10 ** (exponent - 1)) * 10.0 ** (exponent - 1)
    decimals = 1 - exponent
    text = f"{value:.{decimals}f}" if 0 <= decimals <= 9 and abs(value) >= 1e-4 else f"{value:.10g}"
    return text, f"± {half:.1e}"


def _trust(result: HessianResult) -> list[str]:
    lines = []
    if result.ceiling and result.floor:
        chance = f"probability {result.ceiling.probability:g} over the random start"
        above = _bound(result.ceiling.value, 7, above=True)
        if result.operator in ("hessian", "preconditioned"):
            below, holds = _bound(result.floor.value, 5, above=False), f"each bound holds with {chance}"
        else:  # The matrix is positive semidefinite.
            below, holds = "0", f"the upper bound holds with {chance}"
        lines.append(f"all eigenvalues of {_matrix(result)} are between {below} and {above} ({holds})")
    if result.noise_floor is not None and result.rounding is not None and result.orthogonality is not None:
        starred = any(not eigenvalue.verified for eigenvalue in result.eigenvalues)
        lines.append(
            f"each interval contains an exact eigenvalue; its half-width is at least residual + noise floor "
            f"({result.noise_floor:.1e}) + rounding ({result.rounding:.1e}); the basis is orthogonal to within "
            f"{result.orthogonality:.0e}"
            + ("; *: residual from stored products; --certify all computes new products" if starred else "")
        )
    if result.index_probability is not None and result.eigenvalues:
        lines.append(
            f"the indices are correct with probability {result.index_probability:.2g} over the random vectors"
            + _unconfirmed(result)
        )
    return lines


def _matrix(result: HessianResult) -> str:
    part = "this block of " if result.settings.get("params") else ""
    return f"{part}the {MATRICES[result.operator][0]}"


def _without_curvature(reasons: dict[str, str]) -> list[str]:
    """Return one sentence per reason: the parameters that have no curvature, and those that are not part of θ."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        word, tied, owner = reason.partition(" to ")
        names.setdefault(word, []).append(f"{name}{tied}{owner}")
    excluded = {word: names.pop(word) for word in _EXCLUDED if word in names}
    return [
        *(f"no curvature ({word}): {', '.join(parameters)}" for word, parameters in names.items()),
        *(f"{word}: {few(parameters)}" for word, parameters in excluded.items()),
    ]


def _unconfirmed(result: HessianResult) -> str:
    """Return the meaning of the indices that are not confirmed."""
    texts = [_index(eigenvalue) for eigenvalue in result.eigenvalues if not eigenvalue.index_confirmed]
    bounded = "; i to j: the index is one of these" if any("to" in text for text in texts) else ""
    not_bounded = (
        "; i?: the index is i or later, since eigenvalues may have been missed (a larger --confirm may bound it)"
        if any("?" in text for text in texts)
        else ""
    )
    return bounded + not_bounded


def _split(parts: Parts) -> str:
    """Return the two parts of λ."""
    return (
        f"λ = {parts.hessian:.5g} at the first eigenvector is the sum of a Gauss-Newton part {parts.ggn:.5g} and a remainder "
        f"{parts.rest:.4g}"
    )


def _data(bar: DataBar | None, letter: str) -> str:
    if bar is None:
        return ""
    text = f"sampling error of the first eigenvalue ± {bar.standard_error:.3g} ({bar.groups} groups of samples)"
    if bar.bracket is not None and bar.held_out is not None:
        text += (
            f"; on {bar.held_out_samples} held-out samples vᵀ{letter}v = {bar.held_out:.4g} ± {bar.held_out_standard_error:.2g}"
            f"; for all samples of the split between {bar.bracket[0]:.4g} and {bar.bracket[1]:.4g}"
        )
    return text


def _adaptive(result: HessianResult) -> list[str]:
    """Return P and the thresholds of its optimizer in words."""
    made = result.preconditioner
    if made is None:
        return []
    lines = [
        f"P = {made.formula} of {made.optimizer} after {made.updates} updates: entries from {made.smallest:.4g} to "
        f"{made.largest:.4g}, median {made.median:.4g}; learning rate {number(made.learning_rate)}"
    ]
    name = threshold_name(result)
    if result.stability_threshold is not None:
        ratio = "" if result.sharpness_ratio is None else f" (ratio {result.sharpness_ratio:.3g})"
        top = "" if result.lambda_max is None else f"λmax = {result.lambda_max:.4g}; "
        lines.append(
            f"{top}{name} = {result.stability_threshold:.4g} at the peak learning rate {number(result.learning_rate)}{ratio}; "
            f"{name} = {number(result.last_stability_threshold)} at the last update"
        )
    else:
        lines.append(f"the threshold of stability of all parameters is {name}")
    if made.weight_decay_shift is not None:
        lines.append(f"weight decay adds {made.weight_decay_shift:.4g} to the quadratic form of the first eigenvector")
    return lines


def _stability(result: HessianResult) -> list[str]:
    adaptive = _adaptive(result)
    if result.stability_threshold is None or result.sharpness_ratio is None or result.lambda_max is None:
        return adaptive
    if result.momentum_threshold is None:  # Momentum is part of the other threshold.
        return adaptive
    return [
        *adaptive,
        f"λmax = {result.lambda_max:.4g}; 2/lr = {result.stability_threshold:.4g} at the peak learning rate "
        f"{number(result.learning_rate)} (ratio {result.sharpness_ratio:.3g}); "
        f"2/lr = {number(result.last_stability_threshold)} at the last update; with "
        f"{'Polyak' if result.checkpoint.momentum_rule == 'polyak' else 'Nesterov'} momentum "
        f"{number(result.checkpoint.momentum)} the stability limit is {number(result.momentum_threshold)} instead of 2/lr",
    ]


def _moments(moments: Moments, letter: str) -> list[Part]:
    ranks = f"effective rank tr²/‖{letter}‖_F² = {moments.effective_rank:.4g}"
    if moments.stable_rank is not None:
        ranks += f", stable rank ‖{letter}‖_F²/λ² = {moments.stable_rank:.4g}"
    return [
        Text(f"trace {_estimate(moments.trace)}, ‖{letter}‖_F {_estimate(moments.frobenius_norm)} (95 % intervals)"),
        dim(f"{ranks}; {moments.method}, {moments.trace.samples} probes"),
    ]


def _density(density: Density, size: int) -> list[Part]:
    lines: list[Part] = [
        Text(f"eigenvalues above {count.threshold:g}: {_estimate(count.count)} of {size}") for count in density.counts
    ]
    lines.append(dim(f"spectral density from {density.probes} probes of {density.steps} products each; --plot draws it"))
    return lines


def _layers(result: HessianResult) -> Part:
    word = BLOCKS[result.settings.get("blocks", "layer")]
    ranked = any(layer.effective_rank for layer in result.layers)
    away = _mean_distances(result.block_distances)
    more = ["effective rank"] * ranked + ["distance"] * bool(away)
    columns = [word, "parameters", "lambda max", "residual", "verdict", "trace", *more, "share of v1"]
    table = new_table(f"Diagonal block of each {word}", *columns)
    for layer in result.layers:
        rank = layer.effective_rank
        table.add_row(
            layer.label,
            str(layer.num_parameters),
            f"{layer.lambda_max:.5g}",
            f"{layer.residual:.1e}",
            Text(layer.verdict, style=_STYLES[layer.verdict]),
            _estimate(layer.trace),
            *["" if rank is None else _estimate(rank)] * ranked,
            *[f"{away[layer.name]:.2f}" if layer.name in away else ""] * bool(away),
            f"{100 * layer.share:.1f} %",
        )
    return table


def _mean_distances(found: BlockDistances | None) -> dict[str, float]:
    """Return the average distance of each block from the others, by name."""
    if found is None:
        return {}
    others = len(found.names) - 1
    return {name: sum(row) / others for name, row in zip(found.names, found.distances, strict=True)}


def _block_distances(result: HessianResult) -> list[Part]:
    """Return the mean distance of the blocks, and how the densities were made."""
    found = result.block_distances
    if found is None:
        return []
    count = len(found.names)
    passes = max((layer.density.products for layer in result.layers if layer.density), default=0)
    return [
        Text(
            f"Jensen-Shannon distance between the densities of two blocks {found.mean:.4g} on average over "
            f"{count * (count - 1) // 2} pairs (0 equal, 1 nothing in common); between two halves of the probes of one block "
            f"{found.mean_of_halves:.4g}; in the table the average over the other blocks"
        ),
        dim(
            f"densities on the scale asinh(λ / {found.linear_width:.4g}), smoothed by σ = {found.width:g}; at most {passes} "
            "products for each block, those of all blocks in the same passes over the data"
        ),
    ]


def _estimate(estimate: Estimate) -> str:
    if not estimate.samples and estimate.upper - estimate.lower <= _NEGLIGIBLE * abs(estimate.value):
        return f"{estimate.value:.6g}"
    return between_bounds(estimate.value, estimate.lower, estimate.upper)


def _effort(result: HessianResult) -> str:
    uses = ", ".join(f"{count} {_USES.get(use, use)}" for use, count in result.products_by_use.items())
    return f"{result.products} products ({uses}), {result.seconds:.1f} s; {result.conditions.engine}"
