"""Graphs that are kept: what they take is known, the budget holds, and no answer depends on which are kept."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from sharpcli import graphs
from sharpcli.curvature import kept
from sharpcli.curvature.kept import GraphSize
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.objective import Objective
from tests.device import on_device, same
from tests.lanes import crossed, thinned
from tests.nets import Storages, images, normed_mlp, objective, unsettled, vector_for

FORWARD = "forward-over-reverse"
CASES = [
    *(("hessian", engine, name) for engine in ("double-backward", "fused") for name in ("mlp", "conv", "gpt")),
    *(("ggn", engine, "conv") for engine in ("double-backward", "fused")),
    ("empirical-fisher", "double-backward", "gpt"),
]


def operator_at(problem: Objective, kind: str = "hessian", **options: Any) -> CurvatureOperator:
    return operator_of(kind, problem, problem.parameters(), **options)


def alive(operator: CurvatureOperator) -> int:
    """Return the bytes that a product leaves behind: what the kept graphs hold, counted tensor by tensor."""
    vector = vector_for(operator.objective).to(operator.dtype)
    with Storages() as storages:
        operator @ vector
    return storages.bytes()


@pytest.mark.parametrize(
    ("kind", "engine", "name", "dtype"),
    thinned(
        [
            *((*case, dtype) for case in CASES for dtype in ("float32", "float64")),
            ("hessian", "double-backward", "lstm", "float64"),
        ],
        5,
    ),
)
def test_what_graphs_take_is_what_is_alive(monkeypatch: pytest.MonkeyPatch, kind: str, engine: str, name: str, dtype: str):
    """Not so for the LSTM that torch takes in float32: what oneDNN saves for few samples tells little of many."""
    problem = objective(name, dtype=dtype, chunk_size=20)
    operator = operator_at(problem, kind, engine=engine)
    size = GraphSize.of(operator._engine, problem, problem.parameters())
    monkeypatch.setattr(GraphSize, "of", lambda *_: size)
    found = alive(operator)
    assert len(operator._kept) == len(problem.chunk_sizes)
    assert operator._kept.held == pytest.approx(found, rel=0.06)


@pytest.mark.slow
def test_what_a_traced_map_takes_is_what_is_alive():
    """Its constants are many times what the weights are, and the samples that it holds are there anyway."""
    operator = operator_at(objective("conv"), engine="linearize")
    found = alive(operator)
    assert len(operator._kept) == 1
    assert operator._kept.held == pytest.approx(found, rel=0.06)


def test_measuring_leaves_nothing_behind():
    problem = objective("conv")
    engine = operator_at(problem)._engine
    gc.collect()
    with Storages() as storages:
        GraphSize.of(engine, problem, problem.parameters())
    assert storages.bytes() == 0


@pytest.mark.parametrize("name", ["mlp", "conv", "attention", "gpt", "lstm"])
def test_what_a_graph_takes_grows_along_a_straight_line(name: str):
    problem = objective(name)
    theta = problem.parameters()
    engine = operator_at(problem)._engine
    size = GraphSize.of(engine, problem, theta)
    for samples in (3, 4, 10, 20):
        leaves = problem.leaves(theta)
        own = (*leaves.values(), problem.inputs, problem.targets)
        with problem.arithmetic():
            graph, saved = graphs.saved_bytes(
                lambda leaves=leaves, samples=samples: engine.differentiate(problem.few(samples), leaves), own
            )
        wanted = saved + sum(slope.nbytes for slope in graph.slopes)
        assert size.bytes(samples) == pytest.approx(wanted, rel=0.02)


def test_as_many_samples_fit_as_memory_has_room_for_but_one_always():
    size = GraphSize(fixed=100, each=7)
    assert size.bytes(10) == 170
    assert [size.samples(memory) for memory in (170, 169.9, 177, 0, 100)] == [10, 9, 11, 1, 1]
    assert GraphSize(50, 0).samples(60) == 10


@pytest.mark.parametrize(("chunk_size", "sizes"), [(None, [2, 4]), (10, [2, 4]), (3, [2, 3]), (2, [2, 2]), (1, [1, 1])])
def test_measuring_lets_no_more_samples_pass_than_a_product(
    monkeypatch: pytest.MonkeyPatch, chunk_size: int | None, sizes: list[int]
):
    problem = objective("mlp", chunk_size=chunk_size)
    operator, seen = operator_at(problem), []
    engine = operator._engine
    right = engine.differentiate

    def differentiate(chunk: Any, leaves: Any) -> Any:
        seen.append(len(chunk.inputs))
        return right(chunk, leaves)

    monkeypatch.setattr(engine, "differentiate", differentiate)
    operator @ vector_for(problem)
    assert seen[1:3] == sizes  # After the first chunk of the product.
    assert sum(seen) == sum(sizes) + problem.num_samples
    assert len(operator._kept) == len(problem.chunk_sizes)


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_few_samples_take_what_they_take(chunk_size: int):
    problem = objective("mlp", chunk_size=chunk_size)
    operator = operator_at(problem)
    found = alive(operator)
    assert operator._kept.held == pytest.approx(found, rel=0.1)


def test_statistics_over_samples_alone_can_be_measured():
    problem = Objective.of(unsettled(normed_mlp()), *images(), runtime=on_device("float64"), bn="batch", bn_block=51)
    operator = operator_at(problem)
    operator @ vector_for(problem)
    assert problem.chunk_sizes == [51, 52]
    assert len(operator._kept) == 2


# The budget.


@pytest.mark.parametrize("engine", ["double-backward", "fused"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_budget_holds(engine: str, count: int):
    problem = objective("mlp", chunk_size=35)
    whole = operator_at(problem, engine=engine)
    whole @ vector_for(problem)
    assert len(whole._kept) == 3
    size = whole._kept._size.bytes(35)
    operator = operator_at(problem, engine=engine, memory=count * size + 1)
    for _ in range(2):
        operator @ vector_for(problem)
        assert [number in operator._kept for number in range(3)] == [number < count for number in range(3)]
        assert operator._kept.held == count * size
    assert f", graphs kept for {count} of 3 chunks" in operator.engine


def test_a_ragged_last_chunk_takes_less():
    """103 samples in chunks of 34 leave one, which fits where no whole chunk does."""
    problem = objective("mlp", chunk_size=34)
    size = GraphSize.of(operator_at(problem)._engine, problem, problem.parameters())
    operator = operator_at(problem, memory=size.bytes(34) + size.bytes(1))
    operator @ vector_for(problem)
    assert [number in operator._kept for number in range(4)] == [True, False, False, True]
    assert operator._kept.held == size.bytes(34) + size.bytes(1)


@pytest.mark.parametrize(
    ("kind", "engine", "name", "dtype"),
    crossed(["hessian", "ggn"], ["double-backward", "fused"], ["conv", "gpt"], ["float32", "float64"]),
)
def test_no_bit_depends_on_what_is_kept(kind: str, engine: str, name: str, dtype: str):
    problem = objective(name, dtype=dtype, chunk_size=30 if name == "conv" else 10)
    vector = vector_for(problem).to(problem.runtime.dtype)
    everything = operator_at(problem, kind, engine=engine)
    wanted = everything @ vector
    held = everything._kept.held
    assert same(everything @ vector, wanted)
    for memory, least, most in ((0, 0, 0), (held // 2, 1, len(problem.chunk_sizes) - 1)):
        operator = operator_at(problem, kind, engine=engine, memory=memory)
        for _ in range(2):
            assert same(operator @ vector, wanted)
        assert least <= len(operator._kept) <= most


@pytest.mark.slow
def test_maps_that_are_traced_are_kept_in_the_same_way():
    problem = objective("mlp", chunk_size=60)
    whole = operator_at(problem, engine="linearize")
    wanted = whole @ vector_for(problem)
    assert len(whole._kept) == 2
    size = whole._kept.get(0).saved_bytes()
    assert size < whole._kept.held < 2 * size
    operator = operator_at(problem, engine="linearize", memory=size)
    for _ in range(2):
        assert torch.equal(operator @ vector_for(problem), wanted)
    assert 0 in operator._kept
    assert operator._kept.held == size


def test_an_engine_that_gains_nothing_keeps_nothing():
    problem = objective("mlp", chunk_size=20)
    operator = operator_at(problem, engine=FORWARD)
    operator @ vector_for(problem)
    assert len(operator._kept) == operator._kept.held == 0
    assert "graphs" not in operator.engine


def test_by_default_a_share_of_the_free_memory_is_taken(monkeypatch: pytest.MonkeyPatch):
    problem = objective("mlp", chunk_size=30)
    size = GraphSize.of(operator_at(problem)._engine, problem, problem.parameters())
    monkeypatch.setattr("sharpcli.memory.free_memory", lambda _: int(2.1 * size.bytes(30) / 0.3))
    operator = operator_at(problem)
    operator @ vector_for(problem)
    assert len(operator._kept) == 2
    assert kept.KeptGraphs(operator._engine, problem, problem.parameters(), 10**9).held == 0
