"""Stochastic gradient Langevin dynamics (SGLD) around the weights: chains whose density is near exp(-nβ f - ½ γ ‖x‖²).

Reference: Welling and Teh, ICML 2011; Lau et al., AISTATS 2025, arXiv 2308.12108, section 4 (the term in γ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.errors import NumericalError
from sharpcli.linalg.reductions import accumulator_of, dot
from sharpcli.objective import Objective
from sharpcli.runtime import generator

_CHECKED = 50  # Steps of a trial run after which a step size that is much too large is refused.
_MOST_TRIALS = 40
_WORTH = 0.15  # Largest correction for the step size, as a share of the rise, that a trial run accepts.
_USELESS = 0.5  # A trial run ends early at this share.
_UNIT = 0.5  # nβ times the rise of one parameter: the rise of less than this is not looked at more closely.
_SLACK = 0.9  # The next step size is this much below the one that would be accepted if the correction were proportional.
_LEAST_CUT, _MOST_CUT = 0.8, 1 / 16


@dataclass(frozen=True, eq=False)
class Walk:
    """The draws of one chain, in units of 1: nβ times a loss.

    Attributes:
        rises: nβ (f_B(w_t) - f_B(θ)) of each step t, shape (T,), in float64; B is the batch of the step.
        corrections: ⅛ ε nβ ∇f_B(w_t)ᵀ g_t of each step, shape (T,), with g_t = nβ ∇f_B(w_t) + γ (w_t - θ); see `Langevin`.
    """

    rises: Tensor
    corrections: Tensor

    @property
    def values(self) -> Tensor:
        """The rises, corrected for the step size, shape (T,)."""
        return self.rises - self.corrections

    def late(self) -> Walk:
        """Return the second half."""
        half = len(self.rises) // 2
        return Walk(self.rises[half:], self.corrections[half:])

    def share(self) -> float:
        """Return the mean correction as a share of the mean rise, or of the rise of one parameter if this is larger."""
        share = float(self.corrections.mean()) / max(abs(float(self.rises.mean())), _UNIT)
        return share if math.isfinite(share) else math.inf


@dataclass(frozen=True, eq=False)
class Langevin:
    """A sampler of w = θ + x with the steps x ← x - ½ ε g + √ε ξ, g = nβ ∇f_B(θ + x) + γ x, ξ ~ N(0, I).

    B is a random batch, drawn anew in each step. f_B is N/|B| times the share of B in f, so its mean over batches is f
    also with class weights and ignored targets.

    A step ε > 0 and the noise of the batches make x wider than the density exp(-nβ f - ½ γ ‖x‖²). In equilibrium the second
    moments do not change: E xᵢ gᵢ = 1 + ¼ ε E gᵢ². If f is a quadratic with the curvatures hᵢ, the mean of nβ (f - f(θ)) is
    therefore too large by ⅛ ε Σ nβ hᵢ / (nβ hᵢ + γ) E gᵢ². With full batches this is exactly the mean of ⅛ ε nβ ∇fᵀg. With
    random batches, that mean is too large by ⅛ ε Σ γ / (nβ hᵢ + γ) times the variance of nβ ∇f_B along direction i.

    Attributes:
        objective: f, the mean loss.
        theta: Shape (P,).
        inverse: nβ.
        gamma: γ.
        batch: Samples in a batch; all samples in each step if it is 0 or not less than N.
        seed: Seed of noise and batches.
        samples: Number of samples whose loss was computed so far, in a list; a gradient counts as two.
        gradients: Number of gradients so far, in a list.
    """

    objective: Objective
    theta: Tensor
    inverse: float
    gamma: float
    batch: int
    seed: int
    samples: list[int] = field(default_factory=lambda: [0])
    gradients: list[int] = field(default_factory=lambda: [0])

    @property
    def in_batch(self) -> int:
        """Samples in each step."""
        return self.batch if 0 < self.batch < self.objective.num_samples else self.objective.num_samples

    @property
    def passes(self) -> int:
        """Passes over the data so far, rounded up; a gradient counts as two."""
        return math.ceil(self.samples[0] / self.objective.num_samples)

    def widened(self, objective: Objective, theta: Tensor) -> Langevin:
        """Return the same sampler, with the same counts, of f in another precision."""
        return replace(self, objective=objective, theta=theta)

    def base(self) -> float:
        """Return f(θ)."""
        self.samples[0] += self.objective.num_samples
        return self.objective.loss(self.theta)

    def step_size(self, burn_in: int, base: float, shown: progress.Task) -> float:
        """Return the largest step size found whose correction is at most 15 % of the rise, or of the rise of one parameter.

        Trial runs of `burn_in` steps start at ε = 1/γ, at which a flat direction forgets where it was after a step or two.

        Args:
            burn_in: Steps of a trial run.
            base: f(θ).
            shown: Progress that counts the steps.

        Raises:
            NumericalError: No step size is small enough.
        """
        size = 1 / self.gamma
        for trial in range(_MOST_TRIALS):
            share = math.inf
            for steps in sorted({_CHECKED, max(_CHECKED, burn_in)}):
                walk = self._try(size, steps, base, trial, shown)
                share = walk.late().share() if walk else math.inf
                if share > _USELESS:
                    break
            if share <= _WORTH:
                return size
            size *= min(max(_SLACK * _WORTH / share, _MOST_CUT), _LEAST_CUT)
        raise NumericalError("No step size is small enough for this loss.", "Give step_size, or a larger gamma.")

    def _try(self, size: float, steps: int, base: float, trial: int, shown: progress.Task) -> Walk | None:
        try:
            return self.walk(size, 0, steps, base, -1 - trial, shown)
        except NumericalError:
            return None

    def walk(self, size: float, burn_in: int, steps: int, base: float, chain: int, shown: progress.Task) -> Walk:
        """Run a chain that starts at θ.

        Args:
            size: ε.
            burn_in: Steps before the draws.
            steps: Steps with a draw each, T.
            base: f(θ).
            chain: Number of the chain, from 0; below 0 for trial runs.
            shown: Progress that counts the steps.

        Raises:
            NumericalError: The loss or its gradient is not finite on the way.
        """
        counters = (abs(chain), int(chain < 0))
        noise = generator(self.seed, streams.LANGEVIN_NOISE, *counters)
        batches = generator(self.seed, streams.LANGEVIN_BATCHES, *counters)
        offset = torch.zeros_like(self.theta, dtype=accumulator_of(self.theta))
        rises, corrections = [], []
        for step in range(burn_in + steps):
            part, drawn = self._batch(batches)
            here = (self.theta + offset).to(self.theta.dtype)
            loss, slope = part.loss_and_gradient(here)
            slope = self.inverse * slope.to(offset)
            pull = slope + self.gamma * offset
            if step >= burn_in:
                start = part.loss(self.theta) if drawn else base
                self.samples[0] += self.in_batch if drawn else 0
                rises.append(self.inverse * (loss - start))
                corrections.append(size / 8 * dot(slope, pull))
            kick = torch.randn(len(offset), generator=noise).to(offset)
            offset = offset - size / 2 * pull + math.sqrt(size) * kick
            self.samples[0] += 2 * self.in_batch
            self.gradients[0] += 1
            shown.advance(1)
        return Walk(torch.tensor(rises, dtype=torch.float64), torch.tensor(corrections, dtype=torch.float64))

    def _batch(self, random: torch.Generator) -> tuple[Objective, bool]:
        """Return f_B, and whether B was drawn."""
        whole, count = self.objective, self.in_batch
        if count == whole.num_samples:
            return whole, False
        chosen = torch.randperm(whole.num_samples, generator=random)[:count].to(whole.targets.device)
        return replace(whole.among(chosen), total_weight=whole.total_weight * count / whole.num_samples), True
