"""The distribution of the eigenvalues of an operator as point masses, with bands over the probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc
from scipy.stats import norm as gaussian
from scipy.stats import wasserstein_distance

from sharpcli.estimate import Estimate
from sharpcli.linalg.estimates import difference, exact, scaled, student_quantile, widened

_SAME = 1e-7  # Relative spread of values that differ by rounding only.

Array = NDArray[numpy.float64]


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """The distribution of the P eigenvalues, as point masses; bands are over the probes.

    Attributes:
        nodes: Positions of the masses, ascending, shape (Q,), in the unit of the operator.
        weights: Masses, non-negative, with sum 1, shape (Q,).
        probe: Index of the probe of each node, shape (Q,); -1 for a known eigenvalue.
        reach: Largest distance of a mass from its node, shape (Q,): the residual of the node in its
            probe's recurrence, within which there is an eigenvalue, and at least the error from noise
            and rounding.
        lowest, highest: Bounds on each node with only noise and rounding, shape (Q,).
        dimension: P.
        products: Number of products with the operator for this density.
    """

    nodes: Array
    weights: Array
    probe: NDArray[numpy.int64]
    reach: Array
    lowest: Array
    highest: Array
    dimension: int
    products: int

    @property
    def probes(self) -> int:
        """Number of probes; 0 if every eigenvalue is known."""
        return int(self.probe.max()) + 1

    def cdf(self, grid: ArrayLike) -> tuple[Array, Array, Array]:
        """Return, for each point of a grid (G,), the fraction of eigenvalues at or below it, with a band.

        The band is pointwise, 95 %, Student's t over the probes, within [0, 1]. It covers the random error of
        the probes, not the resolution of their nodes: inside a bulk the result of each probe is a step function.
        """
        points = numpy.asarray(grid, dtype=float)[:, None]
        estimate, lower, upper = self._band(lambda nodes: (nodes <= points).astype(float))
        return estimate.clip(0, 1), lower.clip(0, 1), upper.clip(0, 1)

    def count_above(self, threshold: float) -> Estimate:
        """Return the number of eigenvalues above a threshold, with its 95 % interval.

        A probe is uniform on a sphere of d = P - K dimensions, so the share of its squared norm in an
        eigenspace of c dimensions follows Beta(c/2, (d - c)/2), in which only c is unknown. The interval
        contains every c for which the observed mean share lies between the 2.5 % and the 97.5 % quantile. (The
        mean of n shares is modelled as Beta(nc/2, n(d - c)/2), which has the same mean and, up to 1/d, variance.)
        Its coverage is also correct if c is 1 and the shares are far from Gaussian, where Student's interval
        fails. A mass whose reach crosses the threshold may be on either side: the lower end excludes it, the
        upper end includes it. So the coverage is nominal if the threshold is in a gap that the nodes resolve,
        and the interval is wider inside a bulk. Known eigenvalues are counted exactly, except for rounding at
        the threshold; a range that contains no node and no reach of a node counts 0.
        """
        places = numpy.stack([self.nodes - self.reach, self.nodes, self.nodes + self.reach])
        fewest, known, highest = (int(((self.probe < 0) & above).sum()) for above in places > threshold)
        size = self.dimension - int((self.probe < 0).sum())
        if not self.probes:
            return replace(exact(float(known)), lower=float(fewest), upper=float(highest))
        shares = self._shares((places > threshold).astype(float)).mean(axis=0).clip(0, 1)  # Rounding may exceed [0, 1].
        least, share, most = (float(part) for part in shares)
        error = size * math.sqrt(share * (1 - share) / (size / 2 + 1) / self.probes)
        lower = _beta_count(least, size, self.probes, 0.975)
        upper = _beta_count(most, size, self.probes, 0.025)
        return Estimate(
            value=known + size * share,
            standard_error=error,
            lower=fewest + lower,
            upper=highest + upper,
            samples=self.probes,
        )

    def moment(self, order: int) -> Estimate:
        """Return the mean of λ^order over all eigenvalues, in the unit of the operator to that power.

        Order 1 is tr(A) / P.
        """
        return self.mean_of(lambda nodes: nodes**order)

    def effective_rank(self) -> Estimate | None:
        """Return tr(A)² / ‖A‖_F² = P m₁² / m₂ with the moments m, to first order in their errors; None if A is 0.

        To first order, m₁² / m₂ changes like the mean of 2 (m₁/m₂) λ - (m₁/m₂)² λ², whose interval is taken.
        """
        first, second = self.moment(1).value, self.moment(2).value
        if not second > 0:
            return None
        ratio = first / second
        return self.mean_of(lambda nodes: 2 * ratio * nodes - ratio**2 * nodes**2).times(self.dimension)

    def mean_of(self, function: Callable[[Array], Array]) -> Estimate:
        """Return the mean of a function over all eigenvalues; the function takes nodes (Q,).

        A probe is uniform on a sphere of d dimensions. So for a function f with mean m over the unknown eigenvalues, one probe
        has the variance 2 (mean of f² - m²) / (d + 2), which is estimated from the nodes (Dirichlet). The interval models the
        positive and the negative part of f each as a scaled χ²; their difference is that of Zou and Donner. It allows for
        errors of the nodes.
        """
        values = [function(nodes) for nodes in (self.nodes, self.lowest, self.highest)]
        known, unknown = self.probe < 0, self.probe >= 0
        inside, share = float(self.weights[known] @ values[0][known]), float(self.weights[unknown].sum())
        off = float(self.weights @ numpy.abs(numpy.array(values[1:]) - values[0]).max(axis=0))
        if not self.probes:
            return widened(exact(inside), off)
        parts = [self._part(sign * values[0][unknown]) for sign in (1, -1)]
        lower, upper = difference(*parts[0][::2], *parts[1][::2])
        error = math.hypot(parts[0][1], parts[1][1])
        value = parts[0][0] - parts[1][0]
        return widened(
            Estimate(
                value=inside + share * value,
                standard_error=share * error,
                lower=inside + share * lower,
                upper=inside + share * upper,
                samples=self.probes,
            ),
            off,
        )

    def _part(self, values: Array) -> tuple[float, float, tuple[float, float]]:
        """Return mean, standard error and interval of the positive part of a function, from its values at the probes' nodes."""
        weights = self.weights[self.probe >= 0] / self.weights[self.probe >= 0].sum()
        positive = values.clip(min=0)
        value, square = float(weights @ positive), float(weights @ positive**2)
        size = self.dimension - int((self.probe < 0).sum())
        variance = max(square - value**2, 0.0) / (size / 2 + 1) / self.probes
        if variance < (_SAME * value) ** 2:  # All values are equal, up to rounding.
            return value, 0.0, (value, value)
        return value, math.sqrt(variance), scaled(value, variance)

    def smoothed(self, grid: ArrayLike, width: float) -> tuple[Array, Array, Array]:
        """Return the density on a grid (G,) after a Gaussian blur of standard deviation `width`, with a band.

        Its integral is 1; its unit is the inverse of the operator's unit. The band is
        pointwise, 95 %, Student's t over the probes, and not below 0.
        """
        points = numpy.asarray(grid, dtype=float)[:, None]
        estimate, lower, upper = self._band(lambda nodes: gaussian.pdf(points, nodes, width))
        return estimate, lower.clip(min=0), upper

    def wasserstein(self, eigenvalues: ArrayLike) -> float:
        """Return the Wasserstein-1 distance to a known spectrum (P,), in the unit of the operator."""
        return float(wasserstein_distance(self.nodes, numpy.asarray(eigenvalues), self.weights))

    def _shares(self, values: Array) -> Array:
        """Return the means (n, G) of values (G, Q) at the nodes, separately for each probe, whose mass is scaled to 1."""
        shares = [
            values[:, self.probe == index] @ self.weights[self.probe == index] / self.weights[self.probe == index].sum()
            for index in range(self.probes)
        ]
        return numpy.array(shares).reshape(self.probes, len(values))

    def _band(self, function: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
        """Return the mean (G,) of a function with values (G, Q) at nodes (Q,), and a band that allows for errors of nodes."""
        estimate: Array = function(self.nodes) @ self.weights
        moved = numpy.stack([estimate, *(function(nodes) @ self.weights for nodes in (self.lowest, self.highest))])
        half = numpy.zeros(len(estimate))
        if self.probes:
            spread = self._shares(function(self.nodes)).std(axis=0, ddof=1) * self.weights[self.probe >= 0].sum()
            half = student_quantile(self.probes - 1) * spread / math.sqrt(self.probes)
        return estimate, moved.min(axis=0) - half, moved.max(axis=0) + half


def _beta_count(mean: float, size: int, probes: int, level: float) -> float:
    """Return the c in [0, size] at which a share of Beta(probes c/2, probes (size - c)/2) is below `mean` at `level`."""
    if mean <= 0 or mean >= 1:
        return size * mean
    low, high = 0.0, float(size)
    for _ in range(60):  # The probability decreases with c.
        middle = (low + high) / 2
        above = betainc(probes * middle / 2, probes * (size - middle) / 2, mean) > level
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2
