"""Small problems with every kind of layer, and the slow, obvious way to their Hessians and their like."""

from __future__ import annotations

import copy
import functools
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sharpcli.objective import Objective
from sharpcli.runtime import exact_arithmetic
from tests.device import DEVICE, on_device

NUM_SAMPLES = 103  # No batch size used here divides it: the last batch is always ragged.
NUM_TEXTS, LENGTH, VOCABULARY = 23, 6, 5


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
        return self.out(functional.scaled_dot_product_attention(query, key, value).flatten(1))


class Block(nn.Module):
    """A block of GPT-2: two heads of causal attention and two dense layers, normalised before."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        parts = self.mix(self.before(inputs)).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in parts]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        inputs = inputs + self.out(attended.transpose(1, 2).flatten(2))
        return inputs + self.dense(self.between(inputs))


class LanguageModel(nn.Module):
    """GPT-2 in small: token and position embedding, two blocks, an output head tied to the embedding."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.blocks, self.norm = nn.Sequential(Block(width), Block(width)), nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, inputs: Tensor) -> Tensor:
        embedded = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1], device=inputs.device))
        return self.head(self.norm(self.blocks(embedded)))


class Tagger(nn.Module):
    """An LSTM over embedded tokens with a class for the whole text."""

    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 4, padding_idx=padding)
        self.recurrent, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.recurrent(self.tokens(inputs))[0][:, -1])


class Once(torch.autograd.Function):
    """A square whose backward pass cannot be differentiated again."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


class OnceDifferentiable(nn.Module):
    """Has no Hessian that could be computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(Once.apply(self.first(inputs.flatten(1))))


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


def normed_mlp() -> nn.Module:
    """Normalises over samples alone, of which one has no variance."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))


class Limited(nn.Module):
    """Stands for a machine on which only so many samples fit: raises what an allocator does when there are more.

    Attributes:
        most: How many fit; None for any number.
        error: What is raised.
    """

    def __init__(self, inner: nn.Module, error: Exception) -> None:
        super().__init__()
        self.inner, self.error, self.most = inner, error, None

    def forward(self, inputs: Tensor) -> Tensor:
        if self.most is not None and len(inputs) > self.most:
            raise self.error
        return self.inner(inputs)


NETS: dict[str, Callable[[], nn.Module]] = {"mlp": tanh_mlp, "conv": conv_net, "attention": Attention}
TEXT_NETS: dict[str, Callable[[], nn.Module]] = {"gpt": LanguageModel, "lstm": Tagger}


def images(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(NUM_SAMPLES, 1, 8, 8, generator=random, dtype=torch.float64)
    return inputs, torch.randint(0, 4, (NUM_SAMPLES,), generator=random)


def texts(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return tokens and the next tokens, of which each text has another number ignored, sorted so that batches differ."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCABULARY, (NUM_TEXTS, LENGTH + 1), generator=random)
    following = tokens[:, 1:].clone()
    for number, row in enumerate(following):
        row[LENGTH - number * LENGTH // NUM_TEXTS :] = -100
    return tokens[:, :-1].contiguous(), following


def made_model(name: str) -> nn.Module:
    """Return a net in float64 whose BatchNorm statistics are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = (NETS | TEXT_NETS)[name]().double()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return model


def unsettled(model: nn.Module) -> nn.Module:
    """Give a model in float64 BatchNorm statistics and factors that are not the initial ones; return it."""
    random = torch.Generator().manual_seed(5)
    device = next(model.parameters()).device
    for layer in model.double().cpu().modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(generator=random)
            layer.running_var.uniform_(0.5, 2, generator=random)
            for factor in layer.parameters():
                factor.data.uniform_(0.5, 2, generator=random)
    return model.to(device)


def data_for(name: str) -> tuple[Tensor, Tensor]:
    if name == "lstm":
        return texts()[0], images()[1][:NUM_TEXTS]
    return texts() if name == "gpt" else images()


def objective(name: str, *, dtype: str = "float64", **options) -> Objective:
    """Return the objective of a freshly made net."""
    return Objective.of(made_model(name), *data_for(name), runtime=on_device(dtype), **options)


def vector_for(problem: Objective, seed: int = 3) -> Tensor:
    """Return a random vector (P,) in float64 on the device; the same numbers on all of them."""
    drawn = torch.randn(problem.space.dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(DEVICE)


def relative(found: Tensor, wanted: Tensor) -> float:
    """Return |found - wanted| / |wanted|."""
    wanted = wanted.to(found.device)
    return float((found.double() - wanted).norm() / wanted.norm())


class Storages(TorchDispatchMode):
    """Watches what is allocated while it is on, and tells what of it is still alive."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                self._made[storage._cdata] = (weakref.ref(storage), storage.nbytes())
        return answer

    def bytes(self, *, collect: bool = True) -> int:
        """Return the bytes that are alive; without collecting, those of cycles are too."""
        if collect:
            gc.collect()
        return sum(size for storage, size in self._made.values() if storage() is not None)


@contextmanager
def double_differentiation() -> Iterator[None]:
    with exact_arithmetic(recurrent=True), warnings.catch_warnings():
        # Forward differentiation loads parts of torch that announce their own end.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        yield


def by_the_cpu(dense: Callable[[Objective], Tensor]) -> Callable[[Objective], Tensor]:
    """Compute a matrix on the CPU, wherever the problem is: some operations of a GPU cannot be differentiated forward."""

    @functools.wraps(dense)
    def computed(problem: Objective) -> Tensor:
        runtime = replace(problem.runtime, device=torch.device("cpu"))
        model = copy.deepcopy(problem.model).cpu()
        inputs, targets = problem.inputs.cpu(), problem.targets.cpu()
        return dense(replace(problem, model=model, inputs=inputs, targets=targets, runtime=runtime)).to(DEVICE)

    return computed


def outputs_of(problem: Objective) -> Callable[[Tensor], Tensor]:
    """Return the function from θ to the outputs of all samples, in one batch or in the fixed blocks of `bn="batch"`."""
    inputs = problem.inputs.double() if problem.inputs.is_floating_point() else problem.inputs
    model = problem.model.double()
    blocks = problem.chunk_sizes if problem.bn == "batch" else [len(inputs)]

    def outputs(theta: Tensor) -> Tensor:
        parameters = problem.space.split(theta)
        return torch.cat([functional_call(model, parameters, (part,)) for part in torch.split(inputs, blocks)])

    return outputs


def terms_of(problem: Objective) -> Callable[[Tensor], Tensor]:
    """Return the function from outputs (N, C) or (N, T, C) to those loss terms that count, by torch's own losses."""
    targets = problem.targets
    if targets.is_floating_point():
        return lambda outputs: 0.5 * ((outputs - targets) ** 2).sum(1)
    counted = (targets != -100).flatten()

    def terms(outputs: Tensor) -> Tensor:
        logits, classes = outputs.flatten(0, -2)[counted], targets.flatten()[counted]
        if problem.criterion.spec.name == "mse":
            return 0.5 * ((logits - functional.one_hot(classes, logits.shape[1])) ** 2).sum(1)
        return functional.cross_entropy(logits, classes, reduction="none")

    return terms


@by_the_cpu
def dense_hessian(problem: Objective) -> Tensor:
    """Return the exact Hessian (P, P) in float64 by differentiating the whole mean loss at once, in reverse, then forward.

    Not by torch.func.hessian: jacrev batches the inner pass, and with affine LayerNorm behind other layers that
    gives a matrix that is not even symmetric (pytorch/functorch#534; 9 % off on the language model here).
    """
    outputs, terms = outputs_of(problem), terms_of(problem)
    with double_differentiation():
        slope = torch.func.grad(lambda theta: terms(outputs(theta)).mean())
        return torch.func.jacfwd(slope)(problem.parameters().double())


@by_the_cpu
def dense_ggn(problem: Objective) -> Tensor:
    """Return JᵀHJ / n in float64, with the Jacobian J of all outputs and the Hessian H of the summed loss in them."""
    outputs, terms, theta = outputs_of(problem), terms_of(problem), problem.parameters().double()
    with double_differentiation():
        jacobian = torch.func.jacrev(lambda theta: outputs(theta).flatten())(theta)
        answer = outputs(theta).detach()
        middle = torch.func.hessian(lambda flat: terms(flat.view_as(answer)).sum())(answer.flatten())
    return jacobian.T @ middle @ jacobian / len(terms(answer))


@by_the_cpu
def dense_empirical_fisher(problem: Objective) -> Tensor:
    """Return the mean outer product of the gradients of all loss terms, in float64."""
    outputs, terms = outputs_of(problem), terms_of(problem)
    with double_differentiation():
        gradients = torch.func.jacrev(lambda theta: terms(outputs(theta)))(problem.parameters().double())
    return gradients.T @ gradients / len(gradients)


@by_the_cpu
def dense_fisher(problem: Objective) -> Tensor:
    """Return the mean over terms of Σ_c p_c ∇log p_c ∇log p_cᵀ, the expectation over the classes that the model predicts."""
    outputs, theta = outputs_of(problem), problem.parameters().double()
    counted = (problem.targets != -100).flatten()

    def logarithms(theta: Tensor) -> Tensor:
        return torch.log_softmax(outputs(theta).flatten(0, -2)[counted], 1)

    with double_differentiation():
        gradients = torch.func.jacrev(logarithms)(theta)
    return torch.einsum("nc,ncp,ncq->pq", logarithms(theta).exp(), gradients, gradients) / len(gradients)


DENSE: dict[str, Callable[[Objective], Tensor]] = {
    "hessian": dense_hessian,
    "ggn": dense_ggn,
    "fisher": dense_fisher,
    "empirical-fisher": dense_empirical_fisher,
}


@functools.cache
def exact(kind: str, name: str, loss: str = "ce") -> Tensor:
    """Return the explicit matrix of a curvature operator for a net of this file, all data in one batch."""
    return DENSE[kind](objective(name, loss=loss))
