"""Engines other than double backward: right on every net, and out of use the moment they are not."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager

from sharpcli import progress
from sharpcli.curvature import forward_over_reverse
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.errors import InputError, SettingsError
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings
from tests.contracts.test_json import read
from tests.curvature.test_groups import snapshot, switches
from tests.nets import (
    NETS,
    TEXT_NETS,
    Once,
    Residual,
    dense_hessian,
    double_differentiation,
    exact,
    images,
    objective,
    relative,
    vector_for,
)

FORWARD = "forward-over-reverse"
EXACT = Runtime.open("cpu", "float64")
ACCURACY = {"float64": 1e-10, "float32": 2e-6}


def made(problem: Objective, engine: str = FORWARD, **options) -> tuple[HessianOperator, list[str]]:
    """Return the operator, and the warnings that making it gave."""
    with progress.gathering() as messages:
        return HessianOperator(problem, problem.parameters(), engine=engine, **options), messages


def plain(problem: Objective) -> Tensor:
    return HessianOperator(problem, problem.parameters()) @ vector_for(problem).to(problem.runtime.dtype)


def patched(monkeypatch: pytest.MonkeyPatch, product: Callable) -> None:
    """Put a product in place of that of the engine; it is given the right one."""
    right = forward_over_reverse._product_of
    monkeypatch.setattr(forward_over_reverse, "_product_of", lambda problem: product(right(problem)))


@pytest.mark.parametrize(("engine", "batch"), [("double-backward", 7), (FORWARD, 1), (FORWARD, 7), (FORWARD, None)])
@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("name", [*NETS, *TEXT_NETS])
def test_every_engine_gives_the_explicit_hessian(name: str, dtype: str, batch: int | None, engine: str):
    problem = objective(name, dtype=dtype, chunk_size=batch)
    operator, messages = made(problem, engine)
    wanted = exact("hessian", name) @ vector_for(problem)
    for _ in range(2):
        assert relative(operator @ vector_for(problem).to(operator.dtype), wanted) < ACCURACY[dtype]
    assert operator.products == 2  # What verified the engine is not counted.
    assert messages == []
    if engine == FORWARD:
        words, where = operator.engine.removeprefix("forward over reverse, verified against double backward to ").split(" on ")
        assert float(words) < 10 * ACCURACY[dtype]
        assert where == ("the first and last chunk" if problem.num_samples % problem.chunk_size else "the first chunk")
        assert not operator._graphs
    else:
        assert operator.engine.startswith("double backward, graphs kept for ")


@pytest.mark.parametrize("bn", ["batch", "recompute"])
def test_batch_statistics_go_through_too(bn: str):
    problem = objective("conv", bn=bn, bn_block=40)
    operator, messages = made(problem)
    assert messages == []
    assert relative(operator @ vector_for(problem), plain(problem)) < 1e-12


def test_groups_of_samples_are_multiplied_by_double_backward(monkeypatch: pytest.MonkeyPatch):
    """So the product that verifies the first eigenpair comes by another way than those that found it."""
    problem = objective("mlp", chunk_size=10)
    operator, _ = made(problem)
    product = operator @ vector_for(problem)
    monkeypatch.setattr(operator, "_other", "no engine")
    assert relative(operator.quadratic_forms(vector_for(problem), groups=4, seed=0).product, product) < 1e-12


# The two compositions that torch gets wrong without a word.


def slope_of(problem: Objective) -> Callable[[Tensor], Tensor]:
    chunk = next(problem.chunks())
    return torch.func.grad(lambda theta: problem.loss_sum(problem.space.split(theta), chunk))


def by_linearization(problem: Objective) -> Callable[[Tensor], Tensor]:
    """Return Hv of the first chunk by torch.func.linearize, traced once, called for every v."""
    return torch.func.linearize(slope_of(problem), problem.parameters())[1]


def by_reverse_over_forward(problem: Objective) -> Callable[[Tensor], Tensor]:
    chunk = next(problem.chunks())

    def loss(theta: Tensor) -> Tensor:
        return problem.loss_sum(problem.space.split(theta), chunk)

    def product(vector: Tensor) -> Tensor:
        return torch.func.grad(lambda theta: torch.func.jvp(loss, (theta,), (vector,))[1])(problem.parameters())

    return product


class Deep(nn.Module):
    """Adds its inputs in place, more than once."""

    def __init__(self) -> None:
        super().__init__()
        inner = [Residual(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))) for _ in range(2)]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), *inner, nn.Tanh(), nn.Linear(8, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


class Normalised(nn.Module):
    """Has an affine layer normalisation between other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(inputs.flatten(1)))))


def over_images(kind: Callable[[], nn.Module]) -> Objective:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Objective.of(kind().double(), *images(), runtime=EXACT)


WRONG = {
    "added in place, linearized": (lambda: over_images(Deep), by_linearization),
    "layer norm, reverse over forward": (lambda: over_images(Normalised), by_reverse_over_forward),
    "language model, reverse over forward": (lambda: objective("gpt"), by_reverse_over_forward),
}


@pytest.mark.parametrize("case", WRONG)
def test_where_torch_is_silently_wrong_the_engines_are_right(case: str, monkeypatch: pytest.MonkeyPatch):
    make, composition = WRONG[case]
    problem = make()
    vector = vector_for(problem)
    wanted = dense_hessian(problem) @ vector
    operator, messages = made(problem)
    for _ in range(2):
        assert relative(operator @ vector, wanted) < 1e-12
        assert relative(plain(problem), wanted) < 1e-12
    assert messages == []
    with double_differentiation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs = composition(problem)
        off = max(relative(torchs(vector) / problem.num_terms, wanted) for _ in range(2))
    if off < 1e-6:
        pytest.skip(f"torch {torch.__version__} has mended this composition")
    assert off > 1e-2

    def wrong(*given):
        return problem.space.split(torchs(problem.space.flatten(given[1])))

    patched(monkeypatch, lambda _: wrong)
    fallen, messages = made(problem)
    assert len(messages) == 1
    assert " was off by 0." in messages[0]
    assert torch.equal(fallen @ vector, plain(problem))


# Engines that are wrong, or fail: how they get in here is a broken backend of the compiler, or a broken product.


def scaled(*factors: float) -> Callable:
    """Return a backend whose kernels answer as they should times the factors in turn; the last one stays."""
    calls = iter(factors)
    last = factors[-1]

    def backend(graph, inputs):
        run = aot_eager(graph, inputs)

        def kernel(*arguments):
            factor = next(calls, last)
            return [answer * factor for answer in run(*arguments)]

        return kernel

    return backend


def raising(error: BaseException) -> Callable:
    def backend(graph, inputs):
        raise error

    return backend


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (scaled(1.001), "was off by 0.001"),
        (scaled(1.0, 1.001), "was off by 0.001"),  # Right once, wrong the second time.
        (scaled(float("nan")), "was off by inf"),
        (raising(NotImplementedError("no such kernel.\nat length")), "failed: "),
    ],
    ids=["wrong", "wrong the second time", "nan", "raises"],
)
def test_a_wrong_kernel_is_found_and_double_backward_used(monkeypatch: pytest.MonkeyPatch, backend: Callable, words: str):
    monkeypatch.setattr(forward_over_reverse, "BACKEND", backend)
    problem = objective("mlp", dtype="float32")
    operator, messages = made(problem, compiled=True)
    assert len(messages) == 1
    assert messages[0].startswith(f"The engine forward over reverse, compiled {words}")
    assert messages[0].endswith("; double backward is used instead.")
    assert operator.engine.startswith(f"double backward, graphs kept for 1 of 1 chunks (forward over reverse, compiled {words}")
    assert torch.equal(operator @ vector_for(problem).float(), plain(problem))


@pytest.mark.parametrize("wrong", [1, 2, 3, 4], ids=lambda call: f"from call {call} on")
def test_two_calls_over_the_first_and_over_the_ragged_last_chunk_must_agree(monkeypatch: pytest.MonkeyPatch, wrong: int):
    sizes = []

    def product(right):
        def run(parameters, directions, inputs, targets):
            sizes.append(len(inputs))
            found = right(parameters, directions, inputs, targets)
            return {name: part * (1 + 1e-4 * (len(sizes) >= wrong)) for name, part in found.items()}

        return run

    patched(monkeypatch, product)
    problem = objective("mlp", dtype="float32", chunk_size=50)
    operator, messages = made(problem)
    assert sizes == [50, 50, 3, 3]
    assert messages == ["The engine forward over reverse was off by 0.0001; double backward is used instead."]
    assert torch.equal(operator @ vector_for(problem).float(), plain(problem))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_how_far_an_engine_may_be_off(monkeypatch: pytest.MonkeyPatch, dtype: str, bound: float):
    for factor, used in ((0.8, True), (1.2, False)):
        with monkeypatch.context() as patch:
            patched(
                patch,
                lambda right, by=1 + factor * bound: lambda *given: {key: by * part for key, part in right(*given).items()},
            )
            operator, messages = made(objective("mlp", dtype=dtype))
        assert operator.engine.startswith("forward over reverse") == used == (not messages)


class Cube(torch.autograd.Function):
    """Can be differentiated in reverse as often as wanted, but not forward."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class Through(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 8), nn.Linear(8, 4), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.function.apply(self.first(inputs.flatten(1))))


@pytest.mark.parametrize("compiled", [False, True])
def test_an_operation_without_a_forward_derivative_falls_back(compiled: bool):
    problem = Objective.of(Through(Cube).double(), *images(), runtime=EXACT)
    operator, messages = made(problem, compiled=compiled)
    assert len(messages) == 1
    assert " failed: " in messages[0]
    assert torch.equal(operator @ vector_for(problem), plain(problem))


def test_an_operation_without_a_second_derivative_is_refused_by_every_engine():
    problem = Objective.of(Through(Once).double(), *images(), runtime=EXACT)
    with pytest.raises(InputError, match="without a second derivative"):
        made(problem)


class Halting(nn.Module):
    """Stands for what the compiler cannot take: without care, all would run uncompiled and be called compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs.flatten(1))
        torch._dynamo.graph_break()
        return self.last(torch.tanh(hidden))


def test_a_net_that_cannot_be_compiled_whole_falls_back():
    problem = over_images(Halting)
    operator, messages = made(problem, compiled=True)
    assert len(messages) == 1
    assert "compiled failed: " in messages[0]
    assert torch.equal(operator @ vector_for(problem), plain(problem))


def test_a_recurrent_net_is_right_compiled_or_not():
    """Torch cannot capture one today."""
    problem = objective("lstm")
    operator, messages = made(problem, compiled=True)
    assert operator.engine.startswith("double backward" if messages else "forward over reverse, compiled, verified")
    assert relative(operator @ vector_for(problem), exact("hessian", "lstm") @ vector_for(problem)) < 1e-10


@pytest.mark.parametrize("where", ["product", "compiler"])
def test_an_interruption_passes_through(monkeypatch: pytest.MonkeyPatch, where: str):
    def interrupted(*given):
        raise KeyboardInterrupt

    problem = objective("mlp")
    if where == "compiler":
        monkeypatch.setattr(forward_over_reverse, "BACKEND", raising(KeyboardInterrupt()))
    else:
        patched(monkeypatch, lambda _: interrupted)
    before = state()
    with pytest.raises(KeyboardInterrupt):
        made(problem, compiled=where == "compiler")
    assert state() == before


# What is compiled. The compiler's own backend takes 7 to 20 seconds a net here, so a quick one stands for it: it goes
# through the same capture and the same derivation, and runs the operations one by one.


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Use the quick backend, and list the calls of each graph that it compiles."""
    calls: list[int] = []

    def backend(graph, inputs):
        run, number = aot_eager(graph, inputs), len(calls)
        calls.append(0)

        def kernel(*arguments):
            calls[number] += 1
            return run(*arguments)

        return kernel

    monkeypatch.setattr(forward_over_reverse, "BACKEND", backend)
    return calls


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    [("mlp", 25, "float32"), ("mlp", None, "float64"), ("conv", 25, "float32"), ("attention", 25, "float64")],
)
def test_compiled_agrees_with_eager(graphs: list[int], name: str, size: int | None, dtype: str):
    problem = objective(name, dtype=dtype, chunk_size=size)
    compiled, messages = made(problem, compiled=True)
    eager, _ = made(problem)
    vector = vector_for(problem).to(problem.runtime.dtype)
    for _ in range(2):
        assert relative(compiled @ vector, (eager @ vector).double()) < 10 * ACCURACY[dtype] / 2
        assert relative(compiled @ vector, exact("hessian", name) @ vector_for(problem)) < ACCURACY[dtype]
    assert messages == []
    words = "compiled but for the last chunk" if size else "compiled"
    assert compiled.engine.startswith(f"forward over reverse, {words}, verified against double backward to ")
    full = problem.num_samples // size if size else 1
    assert graphs == [2 + 4 * full]  # One graph, used twice by verification, then for all chunks but the ragged one.


def test_compiled_operators_do_not_use_up_the_compilations_of_others(graphs: list[int]):
    """Torch compiles one piece of code eight times and then no more: a run has more checkpoints than that."""
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(2):
            operator, messages = made(objective("mlp", chunk_size=50), compiled=True)
            operator @ vector_for(operator.objective)
            assert messages == []
    assert graphs == [4] * 2


def state() -> tuple[object, ...]:
    """Return what of torch and of Python everybody shares."""
    return (
        switches(),
        torch.backends.mkldnn.enabled,
        torch.get_rng_state().numpy().tobytes(),
        list(warnings.filters),
        torch._dynamo.config.get_config_copy(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["conv", "lstm"])
def test_nothing_is_left_changed(graphs: list[int], name: str, compiled: bool):
    problem = objective(name, dtype="float32", chunk_size=10)
    model, before = snapshot(problem.model), state()
    operator, _ = made(problem, compiled=compiled)
    operator @ vector_for(problem).float()
    assert snapshot(problem.model) == model
    assert state() == before


def test_third_parties_do_not_warn_the_user(monkeypatch: pytest.MonkeyPatch):
    """Nor stop the engine where warnings are errors, as they are here."""

    def product(right):
        def run(*given):
            warnings.warn("this will be removed", FutureWarning, stacklevel=1)
            return right(*given)

        return run

    patched(monkeypatch, product)
    operator, messages = made(objective("mlp"))
    assert messages == []
    assert operator.engine.startswith("forward over reverse, ")


# Settings and the command line.


def test_engines_and_what_they_cannot_do():
    with pytest.raises(SettingsError, match="not a choice"):
        HessianSettings(engine="backward")
    with pytest.raises(SettingsError, match="not a choice"):
        HessianSettings(engine=FORWARD, compile="yes")
    for engine in ("auto", "double-backward"):
        with pytest.raises(SettingsError, match="--compile on") as error:
            HessianSettings(engine=engine, compile="on")
        assert FORWARD in error.value.hint
    for operator in set(OPERATORS) - {"hessian"}:
        assert HessianSettings(operator=operator).engine == "auto"
        with pytest.raises(SettingsError, match="one engine only"):
            HessianSettings(operator=operator, engine=FORWARD)
        problem = objective("mlp")
        with pytest.raises(SettingsError, match="one engine only"):
            operator_of(operator, problem, problem.parameters(), engine=FORWARD)
    with pytest.raises(SettingsError, match="cannot be compiled"):
        made(objective("mlp"), "auto", compiled=True)
    with pytest.raises(SettingsError, match="not a choice"):
        made(objective("mlp"), "backward")


@pytest.fixture(scope="module")
def answers(sharpcli, final) -> Callable[..., dict]:
    def answer(*words: object) -> dict:
        found = sharpcli("hessian", final, "--topk", 3, *words, "--json")
        assert found.exit_code == 0, found.stderr
        return read(found.stdout)

    return answer


@pytest.mark.parametrize("compiled", [False, True])
def test_the_command_line_gives_the_same_eigenvalues_and_names_the_engine(answers, graphs: list[int], compiled: bool):
    usual = answers()
    other = answers("--engine", FORWARD, *["--compile", "on"] * compiled, "--per-layer", "--trace")
    values = [[one["value"] for one in document["result"]["eigenvalues"]] for document in (usual, other)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert [one["verdict"] for one in other["result"]["eigenvalues"]] == ["certified"] * 3
    assert usual["result"]["conditions"]["engine"].startswith("double backward, graphs kept for 1 of 1 chunks")
    name = "forward over reverse, compiled" if compiled else "forward over reverse"
    assert other["result"]["conditions"]["engine"].startswith(f"{name}, verified against double backward to ")
    assert other["warnings"] == []
    assert len(graphs) == compiled


def test_the_command_line_warns_of_a_wrong_engine(answers, monkeypatch: pytest.MonkeyPatch):
    usual = answers()
    patched(monkeypatch, lambda right: lambda *given: {key: 1.1 * part for key, part in right(*given).items()})
    other = answers("--engine", FORWARD)
    assert other["warnings"] == ["The engine forward over reverse was off by 0.1; double backward is used instead."]
    assert other["result"]["conditions"]["engine"].endswith("(forward over reverse was off by 0.1)")
    assert other["result"]["eigenvalues"] == usual["result"]["eigenvalues"]
