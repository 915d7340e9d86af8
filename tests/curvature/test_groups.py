"""What no operator may depend on: how the data are cut, and that nothing but the answer is left behind."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.objective import Objective
from tests.device import DEVICE, on_device, same
from tests.lanes import crossed
from tests.nets import (
    DENSE,
    LENGTH,
    NUM_SAMPLES,
    NUM_TEXTS,
    data_for,
    images,
    made_model,
    objective,
    relative,
    texts,
    vector_for,
)

SPLITS = {"gpt": (1, 7, 20, NUM_TEXTS), "conv": (1, 7, 64, NUM_SAMPLES)}  # 20 leaves 3 texts over, 64 leaves 39 images.
EXACT = on_device("float64")


@pytest.mark.parametrize(("kind", "name", "dtype"), crossed(OPERATORS, SPLITS, ["float64", "float32"]))
def test_any_split_of_the_data_gives_the_same_product(kind: str, name: str, dtype: str):
    accuracy = {"float64": 1e-12, "float32": 1e-6}[dtype]
    products = []
    for size in SPLITS[name]:
        made = objective(name, dtype=dtype, chunk_size=size)
        products.append(operator_of(kind, made, made.parameters()) @ vector_for(made).to(made.runtime.dtype))
    for product in products[:-1]:
        assert relative(product, products[-1].double()) < accuracy


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_mean_of_batch_means_would_be_far_off(kind: str):
    """The control: on these texts the way that PyHessian and hessian-eigenthings average is wrong by more than 10 %."""
    made = objective("gpt")
    inputs, targets = texts()
    parts = [
        Objective.of(made_model("gpt"), some, wanted, runtime=EXACT)
        for some, wanted in zip(inputs.split(20), targets.split(20), strict=True)
    ]
    vector = vector_for(made)
    averaged = sum(operator_of(kind, part, part.parameters()) @ vector for part in parts) / len(parts)
    assert relative(averaged, operator_of(kind, made, made.parameters()) @ vector) > 0.1


@pytest.mark.parametrize(("kind", "net", "groups"), crossed(OPERATORS, [("conv", 10), ("gpt", 4), ("gpt", None)], [1, 5, 1000]))
def test_groups_add_up_to_the_product(kind: str, net: tuple[str, int | None], groups: int):
    name, size = net
    made = objective(name, chunk_size=size)
    operator, vector = operator_of(kind, made, made.parameters()), vector_for(made)
    product = operator @ vector
    found = operator.quadratic_forms(vector, groups=groups, seed=0)
    assert operator.products == 2
    assert relative(found.product, product) < 1e-12
    assert found.forms.dtype == torch.float64
    assert int(found.weights.sum()) == made.total_weight
    assert len(found.forms) == len(found.weights) <= min(groups, made.num_samples)
    whole = float(found.forms @ found.weights) / made.total_weight
    assert whole == pytest.approx(float(vector @ product), rel=1e-12)


@pytest.mark.parametrize("kind", OPERATORS)
def test_each_form_is_that_of_its_own_samples(kind: str):
    made = objective("mlp", chunk_size=10)
    vector = vector_for(made)
    found = operator_of(kind, made, made.parameters()).quadratic_forms(vector, groups=4, seed=1)
    assert found.weights.tolist() == [26, 26, 26, 25]
    groups = [torch.cat([chunk.inputs for chunk in chunks]) for _, chunks in made.groups(4, 1)]
    rows = {row.cpu().numpy().tobytes(): number for number, row in enumerate(made.inputs)}
    for form, group in zip(found.forms, groups, strict=True):
        own = torch.tensor([rows[row.cpu().numpy().tobytes()] for row in group])
        part = Objective.of(made_model("mlp"), made.inputs[own], made.targets[own], runtime=EXACT)
        assert float(form) == pytest.approx(float(vector @ DENSE[kind](part) @ vector), rel=1e-10)


def test_groups_are_drawn_at_random_from_a_seed():
    """Data may be sorted by class: consecutive samples would make the groups differ far more than chance does."""
    inputs, targets = images()
    made = Objective.of(made_model("mlp"), inputs, targets.sort().values, runtime=EXACT)

    def classes(seed: int) -> list[list[int]]:
        return [torch.cat([chunk.targets for chunk in chunks]).tolist() for _, chunks in made.groups(4, seed)]

    assert all(set(group) == {0, 1, 2, 3} for group in classes(0))
    assert classes(0) == classes(0) != classes(1)
    assert sorted(itertools.chain(*classes(0))) == made.targets.tolist()


def test_no_more_samples_pass_at_once_than_a_chunk_has():
    made = objective("mlp", chunk_size=10)
    sizes = [len(chunk.inputs) for _, chunks in made.groups(3, 0) for chunk in chunks]
    assert max(sizes) == 10
    assert sum(sizes) == NUM_SAMPLES


def test_a_group_in_which_all_is_ignored_is_left_out():
    inputs, targets = texts()
    targets[1:] = -100
    made = Objective.of(made_model("gpt"), inputs, targets, runtime=EXACT)
    operator, vector = operator_of("hessian", made, made.parameters()), vector_for(made)
    found = operator.quadratic_forms(vector, groups=23, seed=0)
    assert found.weights.tolist() == [LENGTH]
    assert relative(found.product, operator @ vector) < 1e-12


def test_grouped_products_keep_no_graph():
    made = objective("mlp", chunk_size=10)
    operator = operator_of("hessian", made, made.parameters())
    operator.quadratic_forms(vector_for(made), groups=4, seed=0)
    assert len(operator._kept) == operator._kept.held == 0


@pytest.mark.parametrize(("kind", "blocks"), crossed(OPERATORS, [(40, [40, 40, 23]), (51, [51, 52]), (500, [NUM_SAMPLES])]))
def test_batch_statistics_are_those_of_fixed_blocks(kind: str, blocks: tuple[int, list[int]]):
    block, sizes = blocks
    made = objective("conv", bn="batch", bn_block=block)
    assert made.chunk_sizes == sizes
    operator, vector = operator_of(kind, made, made.parameters()), vector_for(made)
    wanted = DENSE[kind](made) @ vector
    assert relative(operator @ vector, wanted) < 1e-10
    found = operator.quadratic_forms(vector, groups=7, seed=0)
    assert found.weights.tolist() == sizes
    assert relative(found.product, wanted) < 1e-10
    stored = objective("conv")
    assert relative(operator_of(kind, stored, stored.parameters()) @ vector, wanted) > 0.1


class Interrupted(nn.Module):
    """Stands for Ctrl-C in the middle of a pass; sees what the switches of torch are then."""

    left = 0
    flags: tuple[object, ...] = ()

    def forward(self, inputs: Tensor) -> Tensor:
        Interrupted.flags = switches()
        Interrupted.left -= 1
        if Interrupted.left == 0:
            raise KeyboardInterrupt
        return inputs


def switches() -> tuple[object, ...]:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    precision = [getattr(part, "fp32_precision", None) for part in (cuda.matmul, cudnn.conv, cudnn.rnn)]
    return (
        *precision,
        cudnn.enabled,
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        torch.is_grad_enabled(),
    )


def snapshot(model: nn.Module) -> dict[str, object]:
    """Return all that an analysis might change in a model, as plain values."""
    return {
        "state": {name: tensor.detach().cpu().numpy().tobytes() for name, tensor in model.state_dict().items()},
        # On a GPU torch itself moves the weights of recurrent layers, whenever one is copied.
        "places": {} if DEVICE.type == "cuda" else {name: tensor.data_ptr() for name, tensor in model.state_dict().items()},
        "slopes": {name: None if p.grad is None else p.grad.cpu().numpy().tobytes() for name, p in model.named_parameters()},
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "buffers": {name: buffer is None for module in model.modules() for name, buffer in module._buffers.items()},
    }


@pytest.mark.parametrize(("kind", "bn", "interrupted"), crossed(OPERATORS, ["eval", "recompute", "batch"], [False, True]))
def test_nothing_of_the_callers_model_or_of_torch_is_changed(kind: str, bn: str, interrupted: bool):
    model = nn.Sequential(made_model("conv"), nn.Sequential(Interrupted(), nn.LSTM(4, 4)), Second()).double().train()
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    model[0][3].requires_grad_(False).eval()
    model[0][0].weight.register_hook(lambda slope: slope * 1e6)  # It is the caller's; it must not be in our products.
    Interrupted.left = 0
    before, random, flags, legacy = snapshot(model), torch.get_rng_state(), switches(), torch.backends.cudnn.allow_tf32
    made = Objective.of(model, *data_for("conv"), runtime=EXACT, bn=bn, bn_block=40, chunk_size=None if bn == "batch" else 40)
    operator = operator_of(kind, made, made.parameters())
    vector = vector_for(made)
    for work in (lambda: operator @ vector, lambda: operator.quadratic_forms(vector, groups=3, seed=0)):
        Interrupted.left = 2 if interrupted else 0
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                work()
        else:
            work()
        assert Interrupted.flags != flags  # The switches were turned, and are turned back:
        assert switches() == flags
        assert torch.backends.cudnn.allow_tf32 == legacy
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), random)


class Second(nn.Module):
    """Takes the outputs of a recurrent layer without its state."""

    def forward(self, both: tuple[Tensor, object]) -> Tensor:
        return both[0]


def test_a_product_after_an_interrupted_one_is_right():
    model = nn.Sequential(made_model("mlp"), Interrupted())
    made = Objective.of(copy.deepcopy(model), *images(), runtime=EXACT, chunk_size=40)
    operator, vector = operator_of("hessian", made, made.parameters()), vector_for(made)
    Interrupted.left = 2
    with pytest.raises(KeyboardInterrupt):
        operator @ vector
    plain = objective("mlp")
    assert relative(operator @ vector, operator_of("hessian", plain, plain.parameters()) @ vector) < 1e-12


def test_statistics_do_not_drift_from_product_to_product():
    """PyHessian and hessian-eigenthings leave BatchNorm's momentum running while they measure."""
    for bn in ("eval", "recompute", "batch"):
        made = objective("conv", bn=bn)
        operator, vector = operator_of("hessian", made, made.parameters()), vector_for(made)
        first = operator @ vector
        assert same(operator @ vector, first)
        made.evaluate(made.parameters())
        assert same(operator_of("hessian", made, made.parameters()) @ vector, first)
