"""The answer of `hessian` as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from sharpcli.render.folding import kept
from sharpcli.render.labels import MATRICES, distinct
from sharpcli.render.tables.parts import Part, between_bounds, conditions_line, dim, few, heading, new_table, number
from sharpcli.results import DataBar, Density, Eigenvalue, Estimate, HessianResult, Layer, Moments

_USES = {"lanczos": "Lanczos", "ggn split": "Gauss-Newton split"}
_SOUGHT = {"LM": "Eigenvalues of largest magnitude", "SA": "Smallest eigenvalues"}
_LEFT_OUT = ("not selected", "frozen", "tied")  # Why a parameter is no part of θ.
_PRINTED = 1e-5  # Relative width of an interval that six digits do not show.
_STYLES = {"certified": "", "noise-limited": "yellow", "budget-limited": "yellow", "refused": "red"}


def draw_hessian(result: HessianResult) -> list[Part]:
    """Return one answer, most important first."""
    letter = MATRICES[result.operator][1]
    lines: list[Part] = []
    if result.eigenvalues:
        lines.append(_eigenvalues(result))
    else:
        lines.append(Text(f"Curvature: {_subject(result)}", style="bold"))
    lines.append(conditions_line(result.conditions, result.loss, result.accuracy, result.gradient_norm))
    lines += [dim(text) for text in (*_trust(result), _data(result.data_bar, letter), *_stability(result)) if text]
    if result.parts:
        part = result.parts
        lines.append(
            Text(f"λ = {part.hessian:.5g} = {part.ggn:.5g} Gauss-Newton + {part.rest:.4g} rest, at the first eigenvector")
        )
    if result.moments:
        lines += _moments(result.moments, letter)
    if result.density:
        lines += _density(result.density, result.conditions.num_parameters)
    if result.layers:
        lines.append(_layers(result.layers))
        lines.append(dim("share of v1: of the squared length of the first eigenvector of the whole"))
    if result.dead_parameters:
        lines += [dim(text) for text in _dead(result.dead_parameters)]
    if vectors := result.settings.get("vectors"):
        lines.append(Text(f"Eigenvectors written to {kept(vectors)}"))
    lines.append(dim(_effort(result)))
    if result.advice:
        lines.append(Text(result.advice, style="yellow"))
    return [*lines, Text()]


def draw_side_by_side(results: Sequence[HessianResult]) -> list[Part]:
    """Return one row an analysis, for several splits, checkpoints or steps."""
    made = new_table(
        "Side by side",
        "checkpoint",
        "step",
        "split",
        "loss",
        "lambda max",
        "certain to",
        "verdict",
        "2/lr",
        "trace",
        "products",
    )
    for name, result in zip(distinct([result.checkpoint for result in results]), results, strict=True):
        top = next((one for one in result.eigenvalues if one.index == 1), None)
        made.add_row(
            name,
            number(result.checkpoint.step),
            result.conditions.split,
            number(result.loss),
            "–" if top is None else _certain(top.value, top.interval)[0],
            "–" if top is None else _certain(top.value, top.interval)[1],
            top.verdict if top else "–",
            number(result.stability_threshold),
            _estimate(result.moments.trace) if result.moments else "–",
            str(result.products),
        )
    return [made, Text()]


def _eigenvalues(result: HessianResult) -> Part:
    made = new_table(
        f"{_SOUGHT.get(str(result.settings.get('which')), 'Eigenvalues')} of {_subject(result)}",
        "index", "value", "certain to", "residual", "verdict",
    )  # fmt: skip
    for one in result.eigenvalues:
        made.add_row(
            _index(one),
            *_certain(one.value, one.interval),
            f"{one.residual:.1e}" + ("" if one.verified else "*"),
            Text(one.verdict, style=_STYLES[one.verdict]),
        )
    return made


def _subject(result: HessianResult) -> str:
    """Return the matrix, the part of it, and the checkpoint, in words."""
    globs = ", ".join(f"'{kept(glob)}'" for glob in result.settings.get("params", ()))
    block = f"the block {globs} of " if globs else ""
    return f"{block}the {MATRICES[result.operator][0]} of {heading(result.checkpoint)}"


def _index(one: Eigenvalue) -> str:
    """Return which eigenvalue a row is, as far as that is known."""
    if one.index_confirmed:
        return str(one.index)
    if one.index_range is None or one.index_range[1] is None:
        return f"{one.index}?"
    return f"{one.index_range[0]} to {one.index_range[1]}"


def _bound(value: float, digits: int, *, above: bool) -> str:
    """Return a bound in so many digits, rounded to the side on which it still holds."""
    text = f"{value:.{digits}g}"
    if not math.isfinite(value) or (float(text) >= value if above else float(text) <= value):
        return text
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return f"{float(text) + (unit if above else -unit):.{digits}g}"


def _certain(value: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """Return a value in as many digits as its interval gives meaning to, and half the width of that, rounded up."""
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
        above = f"no eigenvalue of {_matrix(result)} above {_bound(result.ceiling.value, 7, above=True)}"
        if result.operator == "hessian":
            below = f"none below {_bound(result.floor.value, 5, above=False)}"
            lines.append(f"{above}, {below} (each with {chance})")
        else:  # A sum of squares.
            lines.append(f"{above} (with {chance}), none below 0")
    if result.noise_floor is not None and result.rounding is not None and result.orthogonality is not None:
        starred = any(not one.verified for one in result.eigenvalues)
        lines.append(
            f"each interval holds an exact eigenvalue; half its width is at least residual + noise floor "
            f"{result.noise_floor:.1e} + rounding {result.rounding:.1e}; basis orthogonal to {result.orthogonality:.0e}"
            + ("; * residual from products kept, --certify all computes it again" if starred else "")
        )
    if result.index_probability is not None and result.eigenvalues:
        lines.append(
            f"each index is right with probability {result.index_probability:.2g} over the random vectors" + _doubts(result)
        )
    return lines


def _matrix(result: HessianResult) -> str:
    part = "this block of " if result.settings.get("params") else ""
    return f"{part}the {MATRICES[result.operator][0]}"


def _dead(reasons: dict[str, str]) -> list[str]:
    """Return which parameters have no curvature, and which were left out, by reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        word, tied, owner = reason.partition(" to ")
        names.setdefault(word, []).append(f"{name}{tied}{owner}")
    parts = {word: names.pop(word) for word in _LEFT_OUT if word in names}
    return [
        *(f"{word}, and so without curvature: {', '.join(found)}" for word, found in names.items()),
        *(f"{word}: {few(found)}" for word, found in parts.items()),
    ]


def _doubts(result: HessianResult) -> str:
    """Return what rows without an index of their own stand for."""
    texts = [_index(one) for one in result.eigenvalues if not one.index_confirmed]
    ranges = "; i to j: an eigenvalue with one of these indices" if any("to" in text for text in texts) else ""
    open_ended = (
        "; ?: an eigenvalue is there, perhaps of a later index (--confirm)" if any("?" in text for text in texts) else ""
    )
    return ranges + open_ended


def _data(bar: DataBar | None, letter: str) -> str:
    if bar is None:
        return ""
    text = f"sampling error of the first value ± {bar.standard_error:.3g} ({bar.groups} groups of the samples)"
    if bar.bracket is not None and bar.held_out is not None:
        text += (
            f"; on {bar.held_out_samples} samples left out vᵀ{letter}v = {bar.held_out:.4g} ± {bar.held_out_standard_error:.2g}"
            f"; for the whole split between {bar.bracket[0]:.4g} and {bar.bracket[1]:.4g}"
        )
    return text


def _stability(result: HessianResult) -> list[str]:
    if result.stability_threshold is None or result.sharpness_ratio is None or result.lambda_max is None:
        return []
    return [
        f"λmax = {result.lambda_max:.4g} against 2/lr = {result.stability_threshold:.4g} at the peak rate "
        f"{number(result.learning_rate)} (ratio {result.sharpness_ratio:.3g}); "
        f"2/lr = {number(result.last_stability_threshold)} at the rate of the last update; with its "
        f"{'Polyak' if result.checkpoint.momentum_rule == 'polyak' else 'Nesterov'} momentum "
        f"{number(result.checkpoint.momentum)} the limit is {number(result.momentum_threshold)}, not 2/lr"
    ]


def _moments(found: Moments, letter: str) -> list[Part]:
    ranks = f"effective rank tr²/‖{letter}‖_F² = {found.effective_rank:.4g}"
    if found.stable_rank is not None:
        ranks += f", stable rank ‖{letter}‖_F²/λ² = {found.stable_rank:.4g}"
    return [
        Text(f"trace {_estimate(found.trace)}, ‖{letter}‖_F {_estimate(found.frobenius_norm)} (95 % intervals)"),
        dim(f"{ranks}; {found.method}, {found.trace.samples} probes"),
    ]


def _density(found: Density, size: int) -> list[Part]:
    lines: list[Part] = [Text(f"eigenvalues above {one.threshold:g}: {_estimate(one.count)} of {size}") for one in found.counts]
    lines.append(dim(f"density from {found.probes} probes of {found.steps} products; see it with --plot"))
    return lines


def _layers(layers: Sequence[Layer]) -> Part:
    made = new_table(
        "Each layer's own block", "layer", "parameters", "lambda max", "residual", "verdict", "trace", "share of v1"
    )
    for one in layers:
        made.add_row(
            one.name,
            str(one.num_parameters),
            f"{one.lambda_max:.5g}",
            f"{one.residual:.1e}",
            Text(one.verdict, style=_STYLES[one.verdict]),
            _estimate(one.trace),
            f"{100 * one.share:.1f} %",
        )
    return made


def _estimate(found: Estimate) -> str:
    if not found.samples and found.upper - found.lower <= _PRINTED * abs(found.value):
        return f"{found.value:.6g}"
    return between_bounds(found.value, found.lower, found.upper)


def _effort(result: HessianResult) -> str:
    uses = ", ".join(f"{count} {_USES.get(use, use)}" for use, count in result.products_by_use.items())
    return f"{result.products} products ({uses}), {result.seconds:.1f} s; {result.conditions.engine}"
