"""R8: an analysis leaves nothing behind but its answer, whether it ends or is interrupted in the middle.

What a single product leaves behind is held by tests/curvature/test_groups.py; here it is whole searches.
"""

import gc
import random
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor, nn

import sharpcli
from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from tests.curvature.test_groups import snapshot, switches
from tests.device import on_device
from tests.lanes import crossed, thinned
from tests.nets import data_for, made_model


class Interrupting(nn.Module):
    """Passes its input on; at a given pass it stands for Ctrl-C. Class attributes, since an objective copies the model."""

    passes = 0
    at = 0

    def forward(self, inputs: Tensor) -> Tensor:
        Interrupting.passes += 1
        if Interrupting.passes == Interrupting.at:
            raise KeyboardInterrupt
        return inputs


def world() -> list[object]:
    """Return all that is global and that an analysis could change."""
    return [
        torch.get_rng_state().tolist(),
        str(numpy.random.get_state()),
        random.getstate(),
        switches(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_inference_mode_enabled(),
        torch.is_anomaly_enabled(),
    ]


def disturbed(model: nn.Module) -> nn.Module:
    """Put a model into a state that is nobody's default."""
    model.train()
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    model[0][3].requires_grad_(False)
    model[0][1].eval()
    return model


@pytest.mark.parametrize(("kind", "interrupted"), crossed(OPERATORS, [False, True]))
def test_a_search_on_a_users_module(kind: str, interrupted: bool) -> None:
    model = disturbed(nn.Sequential(made_model("conv"), Interrupting()))
    torch.manual_seed(5)
    numpy.random.seed(5)
    random.seed(5)
    model_before, before = snapshot(model), world()
    Interrupting.passes = Interrupting.at = 0
    made = Objective.of(model, *data_for("conv"), runtime=on_device("float64"), chunk_size=40)
    operator = operator_of(kind, made, made.parameters(), memory=0)  # No graph is kept: every product passes anew.
    begun = Interrupting.passes
    if interrupted:
        Interrupting.at = begun + 3 * 5 + 2  # In the second of three chunks of the sixth product.
        with pytest.raises(KeyboardInterrupt):
            eigenpairs(operator, Wanted(2))
        assert operator.products == 6
    else:
        pairs = eigenpairs(operator, Wanted(2))
        assert set(pairs.verdicts) == {"certified"}
        # Rounding is measured on all samples, at the weights and at moved ones.
        assert Interrupting.passes == begun + 3 * operator.products + 2 * 3
    assert snapshot(model) == model_before
    assert world() == before
    # The same operator is as good as new after an interruption.
    Interrupting.at = 0
    again = eigenpairs(operator, Wanted(2))
    fresh = eigenpairs(operator_of(kind, made, made.parameters()), Wanted(2))
    assert torch.equal(again.values, fresh.values) or again.values.numpy() == pytest.approx(fresh.values.numpy(), rel=1e-10)


CODE = """
import torch
from torch import nn
from tests.science.test_side_effects import Interrupting


def net():
    torch.manual_seed(99)  # A user's code may do so; it is not to be felt outside.
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), Interrupting(), nn.Linear(4, 3))
"""
EVERYTHING = {"topk": 2, "bottomk": 1, "trace": True, "density": True, "per_layer": True, "ggn_split": True, "samples": 40}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data_file: Path) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.py").write_text(CODE)
    named = f"{folder / 'net.py'}:net"
    Interrupting.at = 0
    sharpcli.train(model=named, data=f"npz:{data_file}", steps=3, out=str(folder / "run"))
    return folder / "run" / "sgd" / "final.pt", named


@pytest.mark.parametrize("bn", thinned(["eval", "recompute", "batch"]))
def test_the_function_with_all_there_is_to_ask_for(
    bn: str, checkpoint: tuple[Path, str], contents: Callable[[Path], dict[str, str]]
) -> None:
    path, named = checkpoint
    before, files = world(), contents(path.parents[2])
    Interrupting.passes = Interrupting.at = 0
    result = sharpcli.hessian(path, model=named, bn=bn, bn_block=10, **EVERYTHING)
    assert result.converged
    assert world() == before
    files_after = {name: hashed for name, hashed in contents(path.parents[2]).items() if "__pycache__" not in name}
    assert files_after == {name: hashed for name, hashed in files.items() if "__pycache__" not in name}
    passes = Interrupting.passes
    for at in (2, passes // 3, passes // 2, passes - 2):  # Loading, searching, verifying, layers.
        Interrupting.passes, Interrupting.at = 0, at
        with pytest.raises(KeyboardInterrupt):
            sharpcli.hessian(path, model=named, bn=bn, bn_block=10, **EVERYTHING)
        assert world() == before
    Interrupting.at = 0
    again = sharpcli.hessian(path, model=named, bn=bn, bn_block=10, **EVERYTHING)
    assert again.eigenvalues == result.eigenvalues


@pytest.mark.parametrize("kind", OPERATORS)
def test_graphs_are_gone_with_the_operator(kind: str) -> None:
    """PyHessian's `backward(create_graph=True)` leaves cycles that keep memory (its issues 25 and 28)."""
    made = Objective.of(made_model("conv"), *data_for("conv"), runtime=on_device("float64"), chunk_size=40)
    operator = operator_of(kind, made, made.parameters())
    eigenpairs(operator, Wanted(1))
    gone = weakref.ref(made.model)
    gc.disable()
    try:
        del operator, made
        assert gone() is None
    finally:
        gc.enable()
