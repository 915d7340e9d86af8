"""Every defect that was found in another tool, and the test that would find it here.

| defect                                      | tool                      | held by                                      |
|---------------------------------------------|---------------------------|----------------------------------------------|
| ghosts once orthogonality is lost           | hessian-eigenthings       | test_no_ghosts_after_120_steps               |
|                                             |                           | linalg/test_krylov: no_ghosts, lost_orth...  |
| "converged" on dropout in train mode        | hessian-eigenthings       | test_dropout_is_refused_and_never_certified  |
|                                             |                           | linalg/test_lanczos: an_operator_of_noise    |
| too few steps by default (k=1, k=5)         | hessian-eigenthings       | test_the_defaults_reach_the_tolerance        |
| "value changed < tol" taken for an error    | PyHessian, Landscaper...  | test_nearly_opposite_ends_from_twenty_starts |
| the same rule for the trace                 | PyHessian, NNCF...        | linalg/test_trace: rule_that_everyone_copied |
| batch means of equal weight (64 + 6)        | hessian-eigenthings       | test_sixty_four_and_six                      |
|                                             |                           | curvature/test_groups: mean_of_batch_means   |
| finite differences of long vectors          | hessian-eigenthings       | test_products_with_long_vectors_are_exact    |
| quotient of another vector (momentum)       | hessian-eigenthings       | test_a_value_is_that_of_its_own_vector       |
| the value before the last is returned       | PyHessian                 | test_a_value_is_that_of_its_own_vector       |
| crash on unused and linear parameters       | all but Landscaper        | curvature/test_hessian: unused..., linear... |
| the product does not depend on the weights  | HessFormer                | curvature/test_hessian: taken_at_the_weights |
| one batch taken for the Hessian             | PyHessian's example       | test_data_bar                                |
| signs lost among the largest in magnitude   | PyHessian                 | test_signs_are_kept                          |
| float64 claimed for products in float32     | curvlinops, SciPy         | test_the_type_is_that_of_the_products        |
| wrong behind an affine LayerNorm            | curvlinops, torch.func    | test_cross_tool: affine_layer_norm           |
| nodes invented after breakdown (rank 2)     | PyHessian, curvlinops     | linalg/test_slq: breakdown_invents_no_nodes  |
| density weights that do not sum to one      | Landscaper                | linalg/test_slq: weights_are_a_distribution  |
| eval mode never restored, BatchNorm drifts  | PyHessian, eigenthings    | test_side_effects, curvature/test_groups     |
| cycles that keep graphs in memory           | PyHessian                 | test_side_effects: graphs_are_gone           |
| fused attention cannot be derived twice     | all                       | curvature/test_hessian: attention_and_...    |
| tokens that are ignored counted in means    | all                       | test_objective, curvature/test_groups        |
| no seed                                     | PyHessian                 | cli/test_hessian: same_seed                  |
| a console script that does not run          | WeightWatcher, HessFormer | cli/test_hessian                             |
| memory allocated before it is looked at     | Laplace                   | linalg/test_lanczos: memory_for_too_few      |
| a restart that loses orthogonality silently | CuPy                      | linalg/test_lanczos: restarts_within         |

Not here: shuffled and augmented data (an objective holds fixed tensors, so there is no way in for them), and what is about
several machines.
"""

from dataclasses import replace

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings
from tests.device import on_device
from tests.lanes import crossed
from tests.linalg.spectra import Planted
from tests.linalg.test_lanczos import bulk
from tests.nets import double_differentiation, images, made_model, objective, relative

SIZE = 20_000
TEN = list(range(10, 0, -1))
SINGLE, EXACT = on_device("float32"), on_device("float64")


def test_no_ghosts_after_120_steps():
    """hessian-eigenthings: ten copies of the first, seven of them called converged. Asking for forty keeps it going."""
    pairs = eigenpairs(Planted(bulk(SIZE, *TEN), torch.float32), Wanted(40), max_products=120)
    assert pairs.steps == 120
    assert pairs.values[:10].tolist() == pytest.approx(TEN, rel=1e-5)
    assert float(pairs.values[10]) < 0.1 * (1 + 1e-5)
    assert pairs.trust.orthogonality < 1e-5
    assert "refused" not in pairs.verdicts


class Dropping(nn.Module):
    """Calls dropout without saying whether it is training, as much code does: eval mode does not reach it."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.inner, self.rate = made_model("mlp"), rate

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(functional.dropout(inputs, self.rate))


@pytest.mark.parametrize(("rate", "memory", "seed"), crossed([0.5, 0.1], [0, None], range(3)))
def test_dropout_is_refused_and_never_certified(rate: float, memory: int | None, seed: int):
    """A kept graph has one mask for good, and so is deterministic: what must not be is that it passes for the model's.

    Products that pass anew are refused by the search itself. With kept graphs only the grouped product that verifies shows it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Objective.of(Dropping(rate), *images(), runtime=EXACT)
        operator = operator_of("hessian", made, made.parameters(), memory=memory)
        pairs = eigenpairs(
            operator, Wanted(3), max_products=60, measure=lambda v: operator.quadratic_forms(v, groups=40, seed=0).product
        )
    assert set(pairs.verdicts) == {"refused"}
    assert pairs.trust.is_random


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_defaults_reach_the_tolerance(count: int, dtype: torch.dtype):
    """hessian-eigenthings: 6.82 for 10 at k=1, 4.26 for 6 at k=5, for it stops after 2k steps."""
    settings = HessianSettings(topk=count)
    pairs = eigenpairs(
        Planted(bulk(SIZE, *TEN), dtype), Wanted(count), tolerance=settings.tol, max_products=settings.most_products()
    )
    assert pairs.values.tolist() == pytest.approx(TEN[:count], rel=1e-5)
    assert set(pairs.verdicts) == {"certified"}
    assert pairs.steps > 2 * count


@pytest.mark.parametrize(("which", "wanted"), [("LA", [1]), ("SA", [-0.98]), ("LM", [1, -0.98])])
def test_nearly_opposite_ends_from_twenty_starts(which: str, wanted: list[float]):
    """PyHessian: between 0.33 and 0.976, without a warning, for power iteration changes slowly there."""
    operator = Planted(bulk(2_000, 1, -0.98), torch.float32)
    for seed in range(20):
        pairs = eigenpairs(operator, Wanted(len(wanted), which), seed=seed)
        assert pairs.values.tolist() == pytest.approx(wanted, rel=1e-5)
        assert set(pairs.verdicts) == {"certified"}


@pytest.mark.parametrize("kind", OPERATORS)
def test_sixty_four_and_six(kind: str):
    """hessian-eigenthings: 95 % off. The control is the mean of the two means."""
    inputs, targets = images()
    inputs, targets = inputs[:70] * torch.where(torch.arange(70) < 64, 1, 4)[:, None, None, None], targets[:70]
    model = made_model("mlp")
    parts = [(inputs, targets, 70), (inputs, targets, 64), (inputs[:64], targets[:64], 64), (inputs[64:], targets[64:], 6)]
    made = [Objective.of(model, *data, runtime=SINGLE, chunk_size=size) for *data, size in parts]
    vector = torch.randn(made[0].space.dimension, generator=torch.Generator().manual_seed(0))
    whole, cut, many, few = (operator_of(kind, one, one.parameters()) @ vector for one in made)
    assert relative(cut, whole.double()) < 1e-6
    assert relative((64 * many + 6 * few) / 70, whole.double()) < 1e-6
    assert relative((many + few) / 2, whole.double()) > 0.3


def test_products_with_long_vectors_are_exact():
    """Of ‖v‖ = √P, as for every trace: finite differences in float32 are 0.5 % off on such a net, in bfloat16 1000 %."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(784, 100), nn.Tanh(), nn.Linear(100, 60), nn.Tanh(), nn.Linear(60, 10))
        inputs, targets = torch.randn(32, 784), torch.randint(0, 10, (32,))
        signs = torch.randint(0, 2, (85_170,)) * 2.0 - 1
    made = Objective.of(model, inputs, targets, runtime=SINGLE)
    assert made.space.dimension == 85_170
    product = operator_of("hessian", made, made.parameters()) @ signs
    assert product.dtype == torch.float32

    def mean(theta: Tensor) -> Tensor:
        outputs = torch.func.functional_call(model.double(), made.space.split(theta), (inputs.double(),))
        return functional.cross_entropy(outputs, targets)

    with double_differentiation():
        theta = made.parameters().double()
        _, exact = torch.func.jvp(torch.func.grad(mean), (theta,), (signs.double(),))
    assert relative(product, exact) < 1e-5
    by_differences = (made.gradient((theta + 5e-3 * signs).float()) - made.gradient((theta - 5e-3 * signs).float())) / 1e-2
    assert relative(by_differences, exact) > 1e-3  # The control.


@pytest.mark.parametrize("verify", ["ends", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("products", [9, 25, 200])
def test_a_value_is_that_of_its_own_vector(products: int, dtype: torch.dtype, verify: str):
    """Power iteration with momentum gave 9.0 for 10, "converged": the quotient was that of the vector it had moved on to."""
    operator = Planted(bulk(3_000, *TEN, -3), dtype)
    near = operator.eigenvectors(3) + 0.02
    for warm in (None, near):
        pairs = eigenpairs(operator, Wanted(5, bottom=1), max_products=products, warm=warm, verify=verify, tolerance=1e-2)
        for value, vector, residual in zip(pairs.values, pairs.vectors, pairs.residuals, strict=True):
            product = (operator @ vector).double()
            wide = vector.double()
            assert float(wide.norm()) == pytest.approx(1, abs=1e-6)
            assert float(value) == pytest.approx(float(wide @ product), abs=3 * pairs.trust.rounding)
            assert float(residual) == pytest.approx(float((product - value * wide).norm()), abs=3 * pairs.trust.rounding)


def test_signs_are_kept():
    """Those of each sign by themselves, and those of both in the order of their size."""
    for which, wanted in (("LM", [7, -6, 5, -4]), ("LA", [7, 5]), ("SA", [-6, -4])):
        pairs = eigenpairs(Planted(bulk(3_000, 7, -6, 5, -4)), Wanted(len(wanted), which))
        assert pairs.values.tolist() == pytest.approx(wanted)


def test_an_interval_by_index_is_that_of_its_own_value():
    """With LM, ±20 take each other's place between the look at the complement and the end of the budget."""
    for seed in range(10):
        random = numpy.random.default_rng(seed)
        turn, _ = numpy.linalg.qr(random.normal(size=(80, 80)))
        made = torch.from_numpy(turn * random.integers(-2, 3, size=80) * 10.0 @ turn.T)
        pairs = eigenpairs((made + made.T) / 2, Wanted(5, "LM", 1), max_products=32, seed=seed)
        for value, (low, high) in zip(pairs.values.tolist(), pairs.by_index, strict=True):
            assert low <= value <= high


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("runtime", "dtype"), [(SINGLE, torch.float32), (EXACT, torch.float64)], ids=["single", "double"])
def test_the_type_is_that_of_the_products(kind: str, runtime: Runtime, dtype: torch.dtype):
    """And so is the rounding in the interval: float64 weights in a float32 analysis do not make it narrower."""
    made = Objective.of(made_model("mlp").double(), *images(), runtime=runtime)
    operator = operator_of(kind, made, made.parameters())
    assert operator.dtype == (operator @ torch.ones(operator.shape[0], dtype=dtype)).dtype == dtype
    pairs = eigenpairs(operator, Wanted(2))
    assert pairs.vectors.dtype == dtype
    low, high = pairs.interval(0)
    assert high - low >= 2 * pairs.trust.rounding
    assert pairs.trust.rounding == pytest.approx(10 * torch.finfo(dtype).eps * float(pairs.values[0]), rel=0.5)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_the_allowance_for_rounding_is_that_of_the_norm(name: str):
    """10 ε ‖A‖ is what is promised, and ‖A‖ is at least the largest value that was found."""
    made = objective(name, dtype="float32")
    pairs = eigenpairs(operator_of("hessian", made, made.parameters()), Wanted(2))
    assert pairs.trust.rounding >= 10 * torch.finfo(torch.float32).eps * float(pairs.values[0]) * (1 - 1e-3)


def test_a_basis_that_is_not_orthogonal_certifies_nothing():
    """CuPy's restarts lost it without a word (cupy#7355). That it is noticed is held by linalg/test_krylov."""
    trust = eigenpairs(Planted(bulk(500, *TEN)), Wanted(3)).trust
    assert trust.refusal == ""
    lost = replace(trust, orthogonality=1e-4)
    assert "orthogonality" in lost.refusal
    assert lost.verdict(10.0, 0.0, 1e-3, finished=True) == "refused"
    assert trust.verdict(10.0, 0.0, 1e-3, finished=True) == "certified"
