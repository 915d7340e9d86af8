"""What a tracker reads from torch's optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sharpcli.callbacks.optimizers import Rates


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize(
    ("options", "threshold"),
    [
        ({"lr": 0.1}, 20.0),
        ({"lr": 0.1, "momentum": 0.9}, 38.0),
        ({"lr": 0.1, "momentum": 0.9, "nesterov": True}, 3.8 / 0.28),
        ({"lr": 0.1, "weight_decay": 0.5}, 19.5),
        ({"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, None),
        ({"lr": 0.0}, None),
    ],
)
def test_the_threshold_of_sgd(options: dict[str, Any], threshold: float | None) -> None:
    found = Rates(torch.optim.SGD(parameters(), **options)).threshold()
    assert found == (None if threshold is None else pytest.approx(threshold))


def test_descent_on_a_quadratic_turns_at_the_threshold() -> None:
    """A little above the threshold the steps of torch's own optimizer grow, a little below they shrink."""
    for options in ({"lr": 0.1}, {"lr": 0.1, "momentum": 0.8}, {"lr": 0.1, "momentum": 0.8, "nesterov": True}):
        for factor, grows in ((0.98, False), (1.02, True)):
            weight = nn.Parameter(torch.ones((), dtype=torch.float64))
            optimizer = torch.optim.SGD([weight], **options)
            threshold = Rates(optimizer).threshold()
            assert threshold is not None
            for _ in range(3000):
                optimizer.zero_grad()
                (0.5 * factor * threshold * weight**2).backward()
                optimizer.step()
                if not torch.isfinite(weight) or abs(float(weight.detach())) > 1e6:
                    break
            assert (abs(float(weight.detach())) > 1e3) is grows


def test_other_optimizers_have_a_rate_only() -> None:
    rates = Rates(torch.optim.AdamW(parameters(), 0.01))
    assert rates.now() == 0.01
    assert rates.threshold() is None
    assert rates.plan() == {"optimizer": "adamw", "lr": 0.01}


def test_groups_that_differ_have_no_rate() -> None:
    one, other = parameters()
    rates = Rates(torch.optim.SGD([{"params": [one], "lr": 0.1}, {"params": [other], "lr": 0.2}]))
    assert (rates.now(), rates.threshold(), rates.plan()) == (None, None, {})
    assert Rates(None).plan() == {}


def test_the_plan_has_the_largest_rate_so_far() -> None:
    optimizer = torch.optim.SGD(parameters(), 0.1, momentum=0.9)
    rates = Rates(optimizer)
    for rate in (0.1, 0.5, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        assert rates.now() == rate
    assert rates.plan() == {"optimizer": "sgd", "lr": 0.5, "momentum": 0.9, "momentum_rule": "polyak"}
