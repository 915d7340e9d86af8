"""The planner: what it measures, what it concludes, and that no answer depends on it. No time is ever measured here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sharpcli import progress
from sharpcli.curvature import forward_over_reverse, planner
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.kept import GraphSize
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.planner import Plan, Planner
from sharpcli.errors import InputError, SettingsError
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from tests.device import on_device
from tests.lanes import crossed, slow
from tests.nets import (
    Limited,
    OnceDifferentiable,
    exact,
    images,
    made_model,
    objective,
    relative,
    unsettled,
    vector_for,
)

FORWARD = "forward-over-reverse"
EXACT = on_device("float64")
Seconds = Callable[[str, int], float]
PINNED = {"_PROBING": 0.03, "_PROBES": 6.4, "_LEAST": 4, "_SHORT": 3.0, "_CLEARLY": 0.95, "_FLAT": 0.9}  # They may be tuned.


class Listener:
    """Hears all that is said."""

    def __init__(self) -> None:
        self.notes, self.warnings, self.tasks = list[str](), list[str](), list[str]()

    def start(self, label: str, _: float | None, **_more: object) -> str:
        self.tasks.append(label)
        return label

    def finish(self, task: str) -> None:
        self.tasks.append(f"end of {task}")

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def heard() -> Iterator[Listener]:
    listener = Listener()
    with progress.listening(listener):
        yield listener


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Say how many seconds a further product takes for each sample; nothing is run. List what is asked for."""

    def pretend(seconds: Seconds) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []
        for name, value in PINNED.items():
            monkeypatch.setattr(planner, name, value)

        def cost(self: Any, engine: str, size: int) -> planner._Cost:
            asked.append((engine, size))
            return planner._Cost(9.0, seconds(engine, size))

        monkeypatch.setattr(planner._Probing, "_cost", cost)
        return asked

    return pretend


def planned(
    problem: Objective, *, kind: str = "hessian", products: int = 100, by: Planner | None = None, **more: Any
) -> CurvatureOperator:
    return (by or Planner()).operator(kind, problem, problem.parameters(), products=products, **more)


# Short runs, and what was asked for.


def test_a_short_run_goes_the_plainest_way(probes: Any, heard: Listener):
    asked = probes(lambda *_: 2.99 / 100 / 103)
    operator = planned(objective("conv"))
    assert asked == [("double-backward", 48)]
    assert (operator.engine_name, operator.objective.chunk_size) == ("double-backward", 103)
    assert heard.notes == ["About 3 s of products: the default engine, double-backward, with 103 samples per pass."]


@pytest.mark.parametrize(("products", "samples", "count"), [(100, 100, 3), (99, 100, 1), (100, 99, 1)])
def test_what_is_short_depends_on_products_and_samples(probes: Any, products: int, samples: int, count: int):
    """From three seconds on, two more things are measured: other kernels, and fewer samples at once."""
    asked = probes(lambda *_: 3.0001 / 100 / 100)
    inputs, targets = (part[:samples] for part in images())
    planned(Objective.of(made_model("conv"), inputs, targets, runtime=EXACT), products=products)
    assert len(asked) == count


def test_a_small_job_is_short_in_truth(heard: Listener):
    operator = planned(objective("mlp"), products=1)
    assert operator.engine == "double backward"
    assert len(heard.notes) == 1
    assert heard.notes[0].endswith(" s of products: the default engine, double-backward, with 103 samples per pass.")
    assert heard.tasks == ["planning", "end of planning"]


@pytest.mark.parametrize(
    "engine", [slow(name) if name == "linearize" else name for name in HessianOperator.engines if name != "difference"]
)
def test_an_engine_that_was_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch, heard: Listener, engine: str):
    monkeypatch.setattr(planner, "_Probing", None)
    operator = planned(objective("mlp", chunk_size=60), by=Planner(engine), products=10**6)
    assert operator.engine_name == engine
    assert operator.objective.chunk_size == 60
    assert heard.notes == [f"The engine {engine} was requested."]
    assert heard.warnings == []


def test_what_is_to_be_compiled_goes_forward_over_reverse(monkeypatch: pytest.MonkeyPatch, heard: Listener):
    monkeypatch.setattr(planner, "_Probing", None)
    monkeypatch.setattr(forward_over_reverse, "compile_whole", lambda run, _: run)
    operator = planned(objective("mlp"), by=Planner(compile="on"))
    assert operator.engine.startswith("forward over reverse, compiled, verified")
    assert heard.notes == ["The engine forward-over-reverse was requested."]


@pytest.mark.parametrize("kind", ["ggn", "fisher", "empirical-fisher"])
def test_the_other_operators_have_nothing_to_compile(kind: str):
    with pytest.raises(SettingsError, match="No engine of this operator can be compiled") as error:
        planned(objective("mlp"), kind=kind, by=Planner(compile="on"))
    assert error.value.hint == "Leave --compile out."
    with pytest.raises(SettingsError, match="no engine 'linearize'"):
        planned(objective("mlp"), kind=kind, by=Planner("linearize"))
    for engine in ("double-backward", "fused"):
        with pytest.raises(SettingsError, match="cannot be compiled"):
            planned(objective("mlp"), kind=kind, by=Planner(engine, "on"))


def test_unless_it_is_asked_for_nothing_is_compiled(probes: Any):
    probes(lambda *_: 1.0)
    for word in ("auto", "off"):
        operator = planned(objective("conv"), by=Planner(compile=word))
        assert not operator._engine.compiled


def test_there_is_no_other_operator():
    with pytest.raises(SettingsError, match="'hesse'") as error:
        planned(objective("mlp"), kind="hesse")
    assert "'hessian'" in error.value.hint


# What is concluded from what was measured: of 103 samples, 48 are tried out for 100 products.


@pytest.mark.parametrize(
    ("fused", "engine"), [(0.5, "fused"), (0.94, "fused"), (0.96, "double-backward"), (2.0, "double-backward")]
)
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_fused_kernels_are_taken_where_they_are_clearly_faster(
    probes: Any, heard: Listener, kind: str, fused: float, engine: str
):
    asked = probes(lambda engine, _: {"double-backward": 1.0, "fused": fused}[engine])
    operator = planned(objective("conv"), kind=kind)
    assert operator.engine_name == engine
    assert asked == [("double-backward", 48), ("fused", 48), (engine, 12)]
    assert heard.notes[0] == (
        f"{engine}: with fused kernels for 3 operations a product over 48 samples takes {48e3 * fused:.3g} ms, "
        "without 4.8e+04 ms."
    )


def test_where_nothing_can_be_fused_nothing_is_tried(probes: Any, heard: Listener):
    asked = probes(lambda *_: 1.0)
    operator = planned(objective("mlp"))
    assert operator.engine_name == "double-backward"
    assert [engine for engine, _ in asked] == ["double-backward"] * 2
    assert heard.notes[0] == "double-backward: the model has nothing that fused kernels take over."


@pytest.mark.parametrize(
    ("quarter", "whole", "size"),
    [
        (0.5, 1.0, 12),
        (0.94, 1.0, 12),  # Fewer at once are faster.
        (0.96, 1.0, 48),  # It makes no difference.
        (1.0, 1.0, 48),
        (1.0, 0.91, 48),
        (1.0, 0.89, 103),  # More at once are faster: as many as memory allows.
        (1.0, 0.2, 103),
    ],
)
@pytest.mark.parametrize("fused", [0.1, 10])
def test_as_many_samples_pass_at_once_as_is_fastest(
    probes: Any, heard: Listener, quarter: float, whole: float, size: int, fused: float
):
    asked = probes(lambda engine, samples: (quarter if samples == 12 else whole) * (fused if engine == "fused" else 1))
    operator = planned(objective("conv"))
    assert operator.objective.chunk_size == size
    engine = "fused" if fused < 1 else "double-backward"
    assert asked[-1] == (engine, 12)  # The one that will be used is asked.
    assert len(heard.notes) == 2
    assert heard.notes[1].startswith(f"{size} samples at once: a sample takes ")
    assert heard.notes[1].endswith("among 48; memory allows 103.")


def test_too_few_to_tell_leave_it_at_what_memory_allows(probes: Any):
    asked = probes(lambda *_: 10.0)
    operator = planned(objective("conv"), products=10)
    assert operator.objective.chunk_size == 103
    assert asked == [("double-backward", 4), ("fused", 4)]  # A quarter of four samples would tell of overhead only.


@pytest.mark.parametrize(("products", "size"), [(1, 4), (10, 4), (30, 14), (100, 48), (10**4, 103)])
def test_measuring_takes_a_small_share_of_the_run(probes: Any, products: int, size: int):
    """Some six products' worth of work over these samples are to be 3 % of all."""
    asked = probes(lambda *_: 10.0)
    planned(objective("conv"), products=products)
    assert asked[0] == ("double-backward", size)
    assert 6.4 * size <= 0.03 * products * 103 or size == 4


@pytest.mark.parametrize(("most", "given"), crossed([1, 2, 3, 4, 5, 8, 17, 60, 103], [False, True]))
def test_no_more_samples_pass_at_once_than_memory_or_the_user_allow(probes: Any, most: int, given: bool):
    """Neither in the run nor while it is planned."""
    for products, exponent in itertools.product((1, 10, 100, 1000), (-1.0, 0.0, 1.0)):
        asked = probes(lambda _, size, power=exponent: 100.0 * size**power)
        operator = planned(objective("mlp", chunk_size=most), products=products, by=Planner(chunk_size=most if given else None))
        assert operator.objective.chunk_size == most if given else operator.objective.chunk_size <= most
        assert max(size for _, size in asked) <= most


def test_the_users_chunk_size_is_kept(probes: Any):
    asked = probes(lambda _, size: 1.0 / size)
    operator = planned(objective("conv", chunk_size=50), by=Planner(chunk_size=50))
    assert operator.objective.chunk_size == 50
    assert len(asked) == 2  # Only which engine.


def test_blocks_of_batch_statistics_are_kept(probes: Any):
    asked = probes(lambda _, size: float(size))
    problem = objective("conv", bn="batch", bn_block=40)
    operator = planned(problem)
    assert operator.objective.chunk_sizes == [40, 40, 23]
    assert [engine for engine, _ in asked] == ["double-backward", "fused"]
    assert (
        relative(operator @ vector_for(problem), HessianOperator(problem, problem.parameters()) @ vector_for(problem)) < 1e-12
    )


# How it is measured.


@pytest.mark.parametrize("engine", ["double-backward", "fused"])
def test_a_cost_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch, engine: str):
    """Of the first product, with the graph, and of the faster of two more."""
    problem = objective("conv")
    probing = planner._Probing(HessianOperator, problem, problem.parameters(), 10, True)
    moments, waits = iter([100.0, 150.0, 158.0, 164.0]), []
    monkeypatch.setattr(planner, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    monkeypatch.setattr(Runtime, "synchronize", lambda _: waits.append("wait"))
    kept, sizes, make = [], [], HessianOperator.make

    def watched(name: str, *given: Any) -> Any:
        made = make(name, *given)
        assert made.words == {"double-backward": "double backward", "fused": "fused double backward"}[engine]
        differentiate = made.differentiate

        def counted(chunk: Any, leaves: Any) -> Any:
            sizes.append(len(chunk.inputs))
            graph = differentiate(chunk, leaves)
            return SimpleNamespace(product=lambda parts, *, keep: [kept.append(keep), graph.product(parts, keep=keep)][1])

        made.differentiate = counted
        return made

    monkeypatch.setattr(HessianOperator, "make", watched)
    assert probing._cost(engine, 20) == (50 / 20, 6 / 20)
    assert sizes == [20]
    assert kept == [True, True, False]
    assert len(waits) == 4  # A device works on while the clock is read.


def test_measuring_is_said_to_be_going_on(probes: Any, heard: Listener):
    probes(lambda *_: 1.0)
    planned(objective("conv"))
    assert heard.tasks[:2] == ["planning", "end of planning"]


# Plans are remembered.


def moved(problem: Objective) -> Objective:
    """Return the same net at other weights."""
    model = made_model("conv")
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    return Objective.of(model, problem.inputs, problem.targets, runtime=EXACT)


def test_checkpoints_of_one_shape_share_a_plan(probes: Any, heard: Listener):
    asked, by = probes(lambda engine, _: 1.0 if engine == "fused" else 2.0), Planner()
    first = objective("conv")
    operators = [planned(problem, by=by) for problem in (first, moved(first), objective("conv"))]
    assert len(asked) == 3
    assert len(heard.notes) == 2
    assert [operator.engine_name for operator in operators] == ["fused"] * 3
    assert [operator.objective.chunk_size for operator in operators] == [48] * 3
    vector = vector_for(first)
    assert relative(operators[1] @ vector, operators[0] @ vector) > 1e-3  # It is the plan that is shared.
    assert torch.equal(operators[1]._theta, moved(first).parameters())


def smaller() -> Objective:
    inputs, targets = (part[:60] for part in images())
    return Objective.of(made_model("conv"), inputs, targets, runtime=EXACT)


@pytest.mark.parametrize(
    "other",
    [
        lambda by: planned(smaller(), by=by),
        lambda by: planned(objective("conv", dtype="float32"), by=by),
        lambda by: planned(objective("conv", chunk_size=60), by=by),
        lambda by: planned(objective("conv", bn="recompute"), by=by),
        lambda by: planned(objective("conv", params=("0.*",)), by=by),
        lambda by: planned(objective("conv"), by=by, products=200),
        lambda by: planned(objective("conv"), by=by, kind="ggn"),
        lambda by: planned(objective("conv"), by=by, memory=10**8),
        lambda _: planned(objective("conv")),
    ],
    ids=["samples", "precision", "chunk", "statistics", "parameters", "products", "operator", "memory", "planner"],
)
def test_what_is_not_alike_is_planned_anew(probes: Any, other: Callable[[Planner], Any]):
    asked, by = probes(lambda *_: 1.0), Planner()
    planned(objective("conv"), by=by)
    before = len(asked)
    other(by)
    assert len(asked) > before


def test_larger_pictures_have_a_plan_of_their_own(probes: Any):
    """The parameters are the same, but fewer samples fit."""

    def pooled(side: int) -> Objective:
        inputs = torch.nn.functional.interpolate(images()[0], size=(side, side))
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
        return Objective.of(model, inputs, images()[1], runtime=EXACT, chunk_size=50)

    asked, by = probes(lambda *_: 1.0), Planner()
    for side, count in ((8, 3), (12, 6), (8, 6)):
        planned(pooled(side), by=by)
        assert len(asked) == count


# No answer depends on a plan.


@pytest.mark.parametrize("name", ["conv", "gpt"])
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("engine", ["double-backward", "fused"])
def test_answers_are_the_same_by_any_plan(monkeypatch: pytest.MonkeyPatch, name: str, kind: str, engine: str):
    problem = objective(name)
    wanted = exact(kind, name) @ vector_for(problem)
    for size in (5, 16, problem.num_samples):
        plan = Plan(engine, False, size, ())
        monkeypatch.setattr(planner._Probing, "plan", lambda _, plan=plan: plan)
        operator = planned(problem, kind=kind)
        assert (operator.engine_name, operator.objective.chunk_size) == (engine, size)
        assert relative(operator @ vector_for(problem), wanted) < 1e-12


def test_nothing_of_the_objective_is_changed(probes: Any):
    probes(lambda _, size: float(size))
    problem = objective("conv")
    before = vars(problem).copy()
    operator = planned(problem)
    assert vars(problem) == before
    assert operator.objective.chunk_size < problem.chunk_size
    assert replace(operator.objective, chunk_size=problem.chunk_size).model is problem.model


# Where something fails.


class Recomputed(nn.Module):
    """Makes its activations anew in the backward pass, where nothing of ours is on the way any more."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
        self.last = nn.Linear(144, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(checkpoint(self.layers, inputs, use_reentrant=False))


def test_a_model_that_does_not_run_with_fused_kernels_goes_without(monkeypatch: pytest.MonkeyPatch, heard: Listener):
    monkeypatch.setattr(planner, "_SHORT", 0)
    problem = Objective.of(unsettled(Recomputed()), *images(), runtime=EXACT)
    operator = planned(problem)
    assert operator.engine_name == "double-backward"
    assert heard.notes[0] == "double-backward: the model does not run with fused kernels."
    assert heard.warnings == []
    usual = Objective.of(unsettled(nn.Sequential(problem.model.layers, problem.model.last)), *images(), runtime=EXACT)
    assert relative(operator @ vector_for(problem), HessianOperator(usual, usual.parameters()) @ vector_for(problem)) < 1e-12


def test_where_memory_runs_out_fewer_samples_are_tried(monkeypatch: pytest.MonkeyPatch, heard: Listener):
    monkeypatch.setattr(planner, "_SHORT", 0)
    problem = Objective.of(Limited(made_model("conv"), torch.OutOfMemoryError("CUDA out of memory")), *images(), runtime=EXACT)
    problem.model.most = 30
    operator = planned(problem, products=10**4)
    assert operator.objective.chunk_size <= 26
    assert heard.warnings == [
        "Not enough memory for 103 samples per pass: continuing with 52.",
        "Not enough memory for 52 samples per pass: continuing with 26.",
    ]
    assert relative(operator @ vector_for(problem), exact("hessian", "conv") @ vector_for(problem)) < 1e-12
    assert len(heard.warnings) == 2


def test_where_not_even_one_sample_fits_that_is_said():
    problem = Objective.of(Limited(made_model("mlp"), MemoryError()), *images(), runtime=EXACT)
    problem.model.most = 0
    with pytest.raises(InputError, match="second derivative of one sample"):
        planned(problem)


def test_other_errors_are_not_taken_for_it():
    problem = Objective.of(Limited(made_model("mlp"), RuntimeError("shapes do not fit")), *images(), runtime=EXACT)
    problem.model.most = 0
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        planned(problem)


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_an_operation_without_a_second_derivative_goes_by_differences(heard: Listener, kind: str):
    problem = Objective.of(OnceDifferentiable().double(), *images(), runtime=EXACT)
    assert planned(problem, kind=kind).engine_name == "difference"
    assert ["no second derivative" in warning for warning in heard.warnings] == [True]
    with pytest.raises(InputError, match="no second derivative"):
        planned(problem, by=Planner("double-backward"), kind=kind)


# Memory.


def test_half_of_the_memory_is_for_graphs_that_are_kept_and_half_for_the_one_in_the_making(probes: Any):
    probes(lambda _, size: 1.0 / size)  # As many as memory allows.
    problem = objective("conv")
    size = GraphSize.of(HessianOperator.make("double-backward", problem), problem, problem.parameters())
    operator = planned(problem, memory=2 * size.bytes(20))
    assert operator.objective.chunk_size == 20
    assert operator._budget == size.bytes(20)
    operator @ vector_for(problem)
    assert 1 <= len(operator._kept) <= 2
    assert operator._kept.held <= size.bytes(20)


@pytest.mark.parametrize("engine", ["auto", "fused", FORWARD])
def test_memory_holds_for_any_engine(probes: Any, engine: str):
    probes(lambda _, size: 1.0 / size)
    problem = objective("conv")
    size = GraphSize.of(HessianOperator.make("double-backward", problem), problem, problem.parameters())
    assert planned(problem, memory=2 * size.bytes(20), by=Planner(engine)).objective.chunk_size == 20
    assert planned(problem, memory=1, by=Planner(engine)).objective.chunk_size == 1
    assert planned(problem, memory=10**9, by=Planner(engine)).objective.chunk_size == 103


def test_memory_cuts_neither_the_users_batches_nor_blocks(probes: Any):
    probes(lambda *_: 1.0)
    assert planned(objective("conv", chunk_size=50), memory=1, by=Planner(chunk_size=50)).objective.chunk_size == 50
    assert planned(objective("conv", bn="batch", bn_block=40), memory=1).objective.chunk_sizes == [40, 40, 23]
