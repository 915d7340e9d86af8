"""Diagonal blocks of a matrix against the dense matrix, and their spectra in closed form."""

from __future__ import annotations

import numpy
import pytest
import torch

from sharpcli.analyses.hessian.partition import partition
from sharpcli.curvature.blocks import Block, BlockOperator, Rows
from sharpcli.curvature.operators import operator_of
from tests.nets import dense_ggn, dense_hessian, objective, relative, vector_for

HALVES = (Rows(0, 0, 1), Rows(0, 1, 3))


def blocks_of(made) -> list[Block]:
    """Return a block for each tensor, but the first tensor cut between its rows."""
    first, *others = made.space.names
    cut = [Block(f"{first} {number}", {first: rows}) for number, rows in enumerate(HALVES)]
    return [*cut, *(Block(name, {name: None}) for name in others), Block("two tensors", {others[0]: None, others[-1]: None})]


def places(block: Block, made) -> torch.Tensor:
    return block.take(torch.arange(made.space.dimension), made.space)


@pytest.mark.parametrize(("name", "operator"), [("attention", "hessian"), ("mlp", "ggn"), ("gpt", "hessian")])
def test_products_are_those_of_the_dense_blocks(name: str, operator: str):
    made = objective(name)
    dense = (dense_ggn if operator == "ggn" else dense_hessian)(made)
    whole, blocks, vector = operator_of(operator, made, made.parameters()), blocks_of(made), vector_for(made)
    found = whole.blockwise(blocks, [block.take(vector, made.space) for block in blocks])
    for block, product in zip(blocks, found, strict=True):
        own = places(block, made)
        assert relative(product, dense[own][:, own] @ vector[own]) < 1e-10
        alone = BlockOperator(whole, block)
        assert alone.shape == (len(own), len(own))
        assert torch.equal(alone @ vector[own], product)
        assert alone.measured_error(vector[own], 1.0) < 1e-10


@pytest.mark.parametrize("engine", ["linearize", "forward-over-reverse", "difference", "fused"])
def test_every_engine_has_the_same_blocks(engine: str):
    made = objective("conv", dtype="float64")
    whole = operator_of("hessian", made, made.parameters(), engine=engine)
    plain = operator_of("hessian", made, made.parameters())
    vectors = [block.take(vector_for(made), made.space) for block in blocks_of(made)]
    for one, other in zip(whole.blockwise(blocks_of(made), vectors), plain.blockwise(blocks_of(made), vectors), strict=True):
        assert relative(one, other) < (1e-5 if engine == "difference" else 1e-10)


def test_a_scale_is_on_both_sides_of_a_block():
    made = objective("mlp")
    scale = vector_for(made, 5).abs()
    whole, dense = operator_of("hessian", made, made.parameters(), scale=scale), dense_hessian(made)
    for block in blocks_of(made):
        own, vector = places(block, made), vector_for(made)
        wanted = scale[own] * (dense[own][:, own] @ (scale[own] * vector[own]))
        assert relative(BlockOperator(whole, block) @ vector[own], wanted) < 1e-10


def test_the_answer_does_not_depend_on_stored_graphs_or_chunks():
    made = objective("attention", chunk_size=7)
    kept, fresh = (operator_of("hessian", made, made.parameters(), memory=memory) for memory in (2**30, 0))
    vectors = [block.take(vector_for(made), made.space) for block in blocks_of(made)]
    for one, other in zip(kept.blockwise(blocks_of(made), vectors), fresh.blockwise(blocks_of(made), vectors), strict=True):
        assert relative(one, other) < 1e-12


@pytest.mark.parametrize("kind", ["layer", "parameter", "projection", "head"])
def test_each_parameter_is_in_one_block(kind: str):
    made = objective("attention")
    found = torch.cat([places(block, made) for block in partition(kind, made)])
    assert numpy.array_equal(numpy.sort(found.cpu().numpy()), numpy.arange(made.space.dimension))
