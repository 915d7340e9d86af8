from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.index_bounds import CheckedIndices, checked_indices

TABLE = torch.arange(15, dtype=torch.float64).reshape(5, 3)
LOOK_UPS: dict[str, Callable[[Tensor], Tensor]] = {
    "embedding": lambda indices: functional.embedding(indices, TABLE),
    "embedding bag": lambda indices: functional.embedding_bag(indices[None], TABLE),
    "index": lambda indices: TABLE[indices],
    "index of the second axis": lambda indices: TABLE.T[:, indices],
    "index_select": lambda indices: TABLE.index_select(0, indices),
    "gather": lambda indices: TABLE.gather(0, indices[:, None]),
    "take": lambda indices: TABLE[:, 0].contiguous().take(indices),
    "scatter": lambda indices: torch.zeros(5).scatter(0, indices, 1.0),
    "index_put": lambda indices: torch.zeros(5).index_put((indices,), torch.ones(2)),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_indices_out_of_range_are_refused_and_others_give_the_same(name: str):
    look_up, good = LOOK_UPS[name], torch.tensor([0, 4])
    with CheckedIndices():
        assert torch.equal(look_up(good), look_up(good))
        for wrong in (5, -6):
            with pytest.raises(IndexError, match=f"index out of range: {wrong} in an axis of size 5"):
                look_up(torch.tensor([0, wrong]))
    assert torch.equal(look_up(good), look_up(good))


def test_what_selects_without_numbers_passes():
    with CheckedIndices():
        assert TABLE[TABLE > 7].shape == (7,)
        assert functional.embedding(torch.zeros(0, dtype=torch.long), TABLE).shape == (0, 3)
        assert TABLE[torch.tensor(-5)].tolist() == [0, 1, 2]


def test_the_cpu_checks_by_itself():
    model = nn.Embedding(5, 3)
    with checked_indices(torch.device("cpu")) as context:
        assert context is None
        with pytest.raises(IndexError):
            model(torch.tensor([5]))
    assert isinstance(checked_indices(torch.device("cuda")), CheckedIndices)
