"""XTrace: trace and Frobenius norm from few products without a known basis, with intervals of correct coverage."""

from __future__ import annotations

import math

import numpy
import torch
from scipy.linalg import solve_triangular
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.estimate import Estimate
from sharpcli.linalg.accuracy import Accuracy
from sharpcli.linalg.estimates import Array, exact, not_below, satterthwaite, student, widened
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.probes import finite_product, negligible_length, random_direction
from sharpcli.linalg.reductions import dot, gram, norm
from sharpcli.linalg.trace import Moments, multiplied_out, require_enough
from sharpcli.runtime import generator

_SKETCHES = 15  # Probes before the first check; with fewer, the variance of the Frobenius norm is too uncertain.
_GROWTH = 1.6


def xtrace(operator: SymmetricOperator, *, half_width: float = 0.02, max_products: int = 70, seed: int = 0) -> Moments:
    """Estimate tr(A) and ‖A‖_F² by XTrace: every probe is part of the sketch for the other probes, and a sample.

    k probes ω are multiplied; their products Aω are orthonormalised and multiplied again: 2k products.
    If probe i is left out, the other products span a space in which the trace is known, and ω_i
    estimates the remainder; the result is the mean of these k values. Each is unbiased given the other
    probes, but they are not independent, and s²/k alone underestimates the variance by a quarter to a half.

    The correction: given all but two probes, let D_ij be the change of the value of probe i when the
    sketch of probe j is added. Its mean over ω_i is 0 for every ω_j, hence E[D_ij D_ji] is exactly the
    covariance of the two values (the part of D_ij that depends on ω_i only is uncorrelated with D_ji), and
    s²/k + mean of D_ij D_ji is an unbiased estimate of the variance of the mean. Leaving out two probes needs
    no further products. A negative mean is a random effect and is replaced by 0. The degrees of freedom are
    Satterthwaite's, from the spread of the probes' contributions to that variance. ‖A‖_F² = tr(A²)
    is estimated in the same way from the same vectors.

    The interval is checked at 15, 24, 39 ... probes, at most max_products // 2; memory is 3k vectors.

    Args:
        operator: Symmetric map A on vectors of shape (P,).
        half_width: Stop when half the interval of the trace is below half_width * |trace|. No unit.
        max_products: Maximum number of products, at least 8; if it is reached, the interval may be wider than
            requested. If P <= max_products, the complete matrix is computed and the result is exact.
        seed: Seed of the probes.

    Returns:
        Trace and squared norm. They are also exact (no samples) if the products of the probes
        span the range of the operator, up to rounding.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: `max_products` is below 8 and does not suffice for an exact answer.

    References:
        Epperly, Tropp and Webber 2024, XTrace, arXiv 2301.07825: section 2.1, with the normalization
        of section 2.3. Hoeffding 1948 and Satterthwaite 1946 for the variance and its degrees of freedom.
    """
    size = operator.shape[0]
    if size <= max_products:
        return multiplied_out(
            operator, torch.empty(0, size, dtype=operator.dtype, device=operator.device), numpy.zeros(2), seed=seed
        )
    most = require_enough(max_products, 8) // 2
    sketch, count = _Sketch(operator, seed), min(_SKETCHES, most)
    with progress.task("trace", total=2 * count, units="products") as shown:
        while True:
            sketch.reserve(count)
            while sketch.size < count:
                if not sketch.extend():
                    return sketch.captured()
                shown.advance(2)
            trace, squared = sketch.estimates()
            reached = trace.upper - trace.value
            shown.advance(0, trace=trace.value, half_width=reached)
            if reached <= half_width * abs(trace.value) or count == most:
                return Moments(trace, squared, sketch.products, "XTrace")
            count = min(most, math.ceil(_GROWTH * count))
            wanted = half_width * abs(trace.value)
            likely = 2 * sketch.size * ((reached / wanted) ** 2 - 1) if wanted else math.inf
            shown.expect(min(max(likely, 2 * (count - sketch.size)), 2 * (most - sketch.size)))


class _Sketch:
    """Probes ω, an orthonormal basis q of their products Aω, and the products Aq: rows (3, k, P).

    All further computations use k by k matrices, in float64 on the CPU.
    """

    def __init__(self, operator: SymmetricOperator, seed: int) -> None:
        self.operator, self.random = operator, generator(seed, streams.XTRACE_PROBES)
        self.rows = torch.empty(3, 0, operator.shape[0], dtype=operator.dtype, device=operator.device)
        self.columns: list[Array] = []  # Columns of R in Aω_i = Σ_a R_ai q_a.
        self.forms: list[float] = []  # ω_i·Aω_i
        self.products, self.largest = 0, 0.0
        self.probes, self.sketches = Accuracy(operator), Accuracy(operator)  # Products of sketches can be as long as ‖A‖.

    @property
    def size(self) -> int:
        return len(self.columns)

    def reserve(self, count: int) -> None:
        """Reserve memory for k = count probes."""
        rows = self.rows.new_empty(3, count, self.rows.shape[2])
        rows[:, : self.size] = self.rows[:, : self.size]
        self.rows = rows

    def extend(self) -> bool:
        """Add a probe, at the cost of two products; return False, after one product, if its product adds no new direction."""
        basis = self.rows[1, : self.size]
        probe = random_direction(self.operator, basis[:0], self.random)
        image, length = self._multiply(probe)
        form, orthogonal = dot(probe, image), orthogonalised(image, [basis])
        self.largest = max(self.largest, length)
        if orthogonal.length <= negligible_length(image.dtype, self.largest):
            return False
        self.rows[0, self.size], self.rows[1, self.size] = probe, orthogonal.vector / orthogonal.length
        self.rows[2, self.size] = self._multiply(self.rows[1, self.size])[0]
        self.probes.see(probe, image, length)
        self.sketches.see(self.rows[1, self.size], self.rows[2, self.size], norm(self.rows[2, self.size]))
        self.columns.append(numpy.append(orthogonal.removed, orthogonal.length))
        self.forms.append(form)
        return True

    def captured(self) -> Moments:
        """Return the moments of an operator whose range is the span of the basis."""
        pairs = list(zip(self.rows[1, : self.size], self.rows[2, : self.size], strict=True))
        trace, squared = math.fsum(dot(q, image) for q, image in pairs), math.fsum(dot(image, image) for _, image in pairs)
        return Moments(*self._allowed(exact(trace), exact(squared)), self.products, "exact")

    def estimates(self) -> tuple[Estimate, Estimate]:
        """Return the trace and the squared norm: the values leave out one probe, their covariances two."""
        count = self.size
        factor = numpy.zeros((count, count))
        for index, column in enumerate(self.columns):
            factor[: index + 1, index] = column
        # Row i is orthogonal to the coefficients of every other product: the basis without q·row_i does not depend on ω_i.
        rows: Array = solve_triangular(factor, numpy.eye(count))
        rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T
        numpy.fill_diagonal(cosines, 0)
        other = rows - cosines[:, :, None] * rows[:, None]  # The part of row j that is orthogonal to row i.
        other /= numpy.linalg.norm(other, axis=2, keepdims=True)
        other[numpy.diag_indices(count)] = 0
        inner = gram(self.rows.flatten(0, 1)).cpu().numpy().reshape(3, count, 3, count)
        one = self._left_out(inner, factor, rows[:, None, None])
        two = self._left_out(inner, factor, numpy.stack([numpy.broadcast_to(rows[:, None], other.shape), other], axis=2))
        trace, squared = (_exchangeable(left[:, 0], pairs) for left, pairs in zip(one, two, strict=True))
        return self._allowed(trace, not_below(squared, float(numpy.trace(inner[2, :, 2]))))

    def _allowed(self, trace: Estimate, squared: Estimate) -> tuple[Estimate, Estimate]:
        """Return the moments with intervals that allow for errors of the products, as measured by `accuracy`."""
        off = numpy.add(self.sketches.off(self.size), self.probes.off(self.rows.shape[2] - self.size))
        return widened(trace, float(off[0])), widened(squared, float(off[1]))

    def _left_out(self, inner: Array, factor: Array, dropped: Array) -> tuple[Array, Array]:
        """Return the values (k, J) of tr(A) and tr(A²) from probe i and the basis without orthonormal rows (k, J, r, k)."""
        overlaps = inner[1, :, 0].T  # (i, a): ω_i·q_a
        known = numpy.repeat(overlaps[:, None], dropped.shape[1], axis=1)
        known -= ((dropped @ overlaps[:, None, :, None]) * dropped).sum(2)
        length_squared = inner[0, :, 0].diagonal()[:, None] - (known**2).sum(2)
        dimension = self.rows.shape[2] - self.size + dropped.shape[2]
        small = (inner[1, :, 2] + inner[2, :, 1]) / 2
        values = []
        for matrix, cross, form in (
            (small, factor, numpy.array(self.forms)),
            (inner[2, :, 2], small @ factor, (factor**2).sum(0)),
        ):
            inside = numpy.trace(matrix) - ((dropped @ matrix) * dropped).sum((2, 3))
            outside = form[:, None] - 2 * (known @ cross.T[:, :, None])[..., 0] + ((known @ matrix) * known).sum(2)
            values.append(inside + dimension * outside / length_squared)
        return values[0], values[1]

    def _multiply(self, vector: Tensor) -> tuple[Tensor, float]:
        self.products += 1
        return finite_product(self.operator, vector, self.products)


def _exchangeable(values: Array, without: Array) -> Estimate:
    """Return the mean of leave-one-out values (k,); leave-two-out values (k, k) correct its variance."""
    count = len(values)
    changes = values[:, None] - without
    numpy.fill_diagonal(changes, 0)
    covariances = (changes * changes.T).sum(1) / (count - 1)
    squares = (values - values.mean()) ** 2 / (count - 1)
    variance = float(squares.mean() + max(covariances.mean(), 0))
    # Each pair belongs to two probes, so a probe's contribution to the uncertainty of the mean of pairs counts twice.
    freedom = satterthwaite(variance, squares + 2 * covariances)
    return student(float(values.mean()), math.sqrt(variance), freedom=freedom, samples=count)
