"""The expected cost of `hessian --topk 20`: its time, from a product on a few samples, and the memory of vectors and a pass."""

from __future__ import annotations

import time

import torch

from sharpcli.analyses.hessian.search import operator_for, planner_for
from sharpcli.objective import Objective
from sharpcli.results import HessianCost
from sharpcli.settings import HessianSettings
from sharpcli.trial_passes import saved_bytes_per_sample

_TOPK = 20
_SAMPLES = 256  # Maximum number of samples for the timed product.


def hessian_cost(objective: Objective) -> HessianCost:
    """Return the expected cost of the 20 largest eigenvalues, from two products on some of the samples.

    The second product is timed, because the first includes work that is done only once. The time for all samples is the
    measured time multiplied by the ratio of the numbers of samples.

    Raises:
        SharpcliError: Products cannot be computed for this model.
    """
    count = min(_SAMPLES, objective.num_samples, objective.chunk_size)
    few = objective.among(torch.arange(count, device=objective.targets.device))
    theta = objective.parameters()
    wanted = min(_TOPK, len(theta))
    settings = HessianSettings(topk=wanted)
    operator = operator_for(few, theta, settings, planner_for(settings))
    products, vector = min(settings.expected_products(), len(theta)), torch.ones_like(theta)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        float((operator @ vector)[0])  # Waits for the device.
        seconds = time.perf_counter() - started
    one = seconds * objective.num_samples / count
    return HessianCost(
        topk=wanted,
        products=products,
        seconds=one * products,
        vector_bytes=products * theta.nbytes,
        pass_bytes=saved_bytes_per_sample(objective) * objective.chunk_size,
    )
