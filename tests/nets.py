"""Small problems with every kind of layer, and the slow, obvious way to their Hessians."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpcli.objective import LOSSES, Objective
from sharpcli.runtime import Runtime

NUM_SAMPLES = 103  # No batch size used here divides it: the last batch is always ragged.


class Residual(nn.Module):
    """Adds its input in place, which breaks some ways of differentiating twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        out = self.inner(inputs)
        out += inputs
        return out


class Attention(nn.Module):
    """One head over the eight rows of the image, through the default attention kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out, self.norm = nn.Linear(8, 24), nn.Linear(64, 4), nn.LayerNorm(8)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.mix(self.norm(inputs.squeeze(1))).chunk(3, dim=-1)
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value).flatten(1))


def tanh_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), Residual(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 4))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 4),
    )


NETS = {"mlp": tanh_mlp, "conv": conv_net, "attention": Attention}


def images(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(NUM_SAMPLES, 1, 8, 8, generator=random, dtype=torch.float64)
    return inputs, torch.randint(0, 4, (NUM_SAMPLES,), generator=random)


def objective(name: str, *, dtype: str = "float64", loss: str = "ce", chunk_size: int | None = None) -> Objective:
    """Return the objective of a freshly made net whose BatchNorm statistics are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = NETS[name]().double()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    inputs, targets = images()
    return Objective.of(model, inputs, targets, loss=loss, runtime=Runtime.open("cpu", dtype), chunk_size=chunk_size)


def dense_hessian(problem: Objective) -> Tensor:
    """Return the exact Hessian (P, P) in float64 by differentiating the whole mean loss at once."""
    inputs = problem.inputs.double()
    model = problem.model.double()

    def mean_loss(theta: Tensor) -> Tensor:
        outputs = functional_call(model, problem.space.split(theta), (inputs,))
        return LOSSES[problem.loss_name](outputs, problem.targets).mean()

    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        # Forward differentiation loads parts of torch that announce their own end.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        return torch.func.hessian(mean_loss)(problem.parameters().double())
