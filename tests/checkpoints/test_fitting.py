"""Names of weights against names of a model: what torch takes is taken, wrappers come out, and a refusal says what differs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sharpcli import checkpoints, progress
from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import InputError

State = dict[str, Tensor]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.linear = nn.Linear(4, 4)


class Net(nn.Module):
    """Blocks in blocks, and names that wrappers have too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 3)


class Inner(nn.Module):
    """A model that has a module called `model` itself."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Net()
        self.out = nn.Linear(3, 2)


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (*model.parameters(), *model.buffers()):
            if part.is_floating_point():
                part.copy_(torch.randn(part.shape, generator=random).abs())
    return model


def given(state: State) -> Checkpoint:
    return Checkpoint(Path("x.pt"), {name: part.clone() for name, part in state.items()}, container="state dict")


def check(state: State, source: nn.Module, target: nn.Module) -> list[str]:
    """Load into a model of other values, and compare it with the one that the state is from; return the warnings."""
    with progress.gathering() as said:
        checkpoints.fit(given(state), target)
    for name, part in source.state_dict().items():
        assert torch.equal(part, target.state_dict()[name]), name
    return said


def nested(name: str) -> str:
    name = name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module.")
    return name.replace("head.", "head._fsdp_wrapped_module.")


WRAPPED: dict[str, Callable[[str], str]] = {
    "as it is": lambda name: name,
    "DDP": lambda name: f"module.{name}",
    "DDP twice": lambda name: f"module.module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "DDP of compiled": lambda name: f"module._orig_mod.{name}",
    "compiled DDP": lambda name: f"_orig_mod.module.{name}",
    "Lightning": lambda name: f"model.{name}",
    "Lightning, compiled": lambda name: f"model._orig_mod.{name}",
    "Fabric": lambda name: f"_forward_module.{name}",
    "Opacus": lambda name: f"_module.{name}",
    "any one word": lambda name: f"backbone.{name}",
    "any words": lambda name: f"trainer.policy.{name}",
    "blocks sharded": lambda name: name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."),
    "blocks compiled": lambda name: name.replace("blocks.0.", "blocks.0._orig_mod.").replace("head.", "head._orig_mod."),
    "blocks checkpointed": lambda name: name.replace("linear.", "_checkpoint_wrapped_module.linear."),
    "all at once": lambda name: f"module._orig_mod.model.{nested(name)}",
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("kind", [Net, Inner])
def test_what_wrappers_put_into_names_comes_out(name: str, kind: type[nn.Module]) -> None:
    source, target = filled(kind()), filled(kind(), seed=1)
    state = {WRAPPED[name](key): part for key, part in source.state_dict().items()}
    assert check(state, source, target) == []


def test_a_model_that_wraps_the_one_of_the_file() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

    source = filled(Wrapper())
    check(source.model.state_dict(), source, filled(Wrapper(), seed=1))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_strays_are_named_and_left_out(prefix: str) -> None:
    source = filled(Net())
    state = {f"{prefix}{name}": part for name, part in source.state_dict().items()}
    strays = {"n_averaged": torch.tensor(3), "criterion.weight": torch.ones(3), "loss_fn.pos_weight": torch.ones(3)}
    said = check({**state, **strays}, source, filled(Net(), seed=1))
    assert len(said) == 1
    assert all(f"'{name}'" in said[0] for name in strays)


def test_a_criterion_of_the_model_itself_is_no_stray() -> None:
    def net() -> nn.Module:
        model = Net()
        model.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))
        return model

    source = filled(net())
    assert check(source.state_dict(), source, filled(net(), seed=1)) == []


def test_averages_of_torch_fit_the_model_that_was_averaged() -> None:
    source = filled(Net())
    averaged = torch.optim.swa_utils.AveragedModel(source)
    said = check(averaged.state_dict(), source, filled(Net(), seed=1))
    assert "'n_averaged'" in said[0]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_batch_norm_of_old_files_has_no_counter(prefix: str) -> None:
    source = Net()
    filled(source)
    state = {f"{prefix}{name}": part for name, part in source.state_dict().items() if "num_batches" not in name}
    assert check(state, source, filled(Net(), seed=1)) == []


def old_weight_norm(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(module)


NORMED: dict[str, tuple[Callable[[nn.Module], nn.Module], Callable[[nn.Module], nn.Module]]] = {
    "old file, new model": (old_weight_norm, nn.utils.parametrizations.weight_norm),
    "old file, old model": (old_weight_norm, old_weight_norm),
    "new file, new model": (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.weight_norm),
    "spectral": (nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.spectral_norm),
}


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
@pytest.mark.parametrize("name", NORMED)
def test_prefixes_that_modules_convert(name: str, prefix: str) -> None:
    saved, built = NORMED[name]
    torch.manual_seed(0)
    source, target = (nn.Sequential(nn.Linear(5, 4), how(nn.Linear(4, 3))).eval() for how in (saved, built))
    state = {f"{prefix}{key}": part for key, part in source.state_dict().items()}
    checkpoints.fit(given(state), target)
    inputs = torch.randn(7, 5)
    assert torch.allclose(source(inputs), target(inputs), atol=1e-6)
    fresh = nn.Sequential(nn.Linear(5, 4), built(nn.Linear(4, 3)))
    assert checkpoints.parts(given(state), fresh).num_parameters == sum(part.numel() for part in source.parameters())


class Tied(nn.Module):
    """Three names of one tensor, and a module that is there twice with its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.b.weight = self.c.weight = self.a.weight
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm


@pytest.mark.parametrize("kept", ["a", "b", "c"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_tied_tensor_may_be_there_once(kept: str, prefix: str) -> None:
    source = filled(Tied())
    state = source.state_dict()
    others = [f"{name}.weight" for name in "abc" if name != kept]
    once = {name: part for name, part in state.items() if name not in others and not name.startswith("again")}
    target = filled(Tied(), seed=1)
    assert check({f"{prefix}{name}": part for name, part in once.items()}, source, target) == []
    assert target.a.weight is target.b.weight is target.c.weight


def test_a_tied_tensor_with_two_values_is_refused() -> None:
    state = filled(Tied()).state_dict()
    state["b.weight"] = state["b.weight"] + 1
    with pytest.raises(InputError, match=r"In the model, 'a\.weight' and 'b\.weight' are the same tensor"):
        checkpoints.fit(given(state), Tied())


def test_a_refusal_lists_what_differs() -> None:
    state = filled(Net()).state_dict()
    del state["blocks.0.linear.weight"], state["blocks.1.linear.weight"]
    state |= {"more": torch.ones(2), "head.bias": torch.ones(7)}
    with pytest.raises(InputError) as caught:
        checkpoints.fit(given(state), Net())
    counts = "2 tensors are missing from the file, 1 tensor is not in the model, 1 tensor is of another shape."
    assert caught.value.message.endswith(f"does not fit the model: {counts}")
    assert caught.value.details == (
        "  missing from the file   'blocks.0.linear.weight'",
        "  missing from the file   'blocks.1.linear.weight'",
        "  not in the model        'more'  (2,)",
        "  of another shape        'head.bias'  (7,) in the file, (3,) in the model",
    )
    assert str(caught.value).splitlines() == [caught.value.message, *caught.value.details]


def test_a_long_list_is_cut_with_its_length() -> None:
    state = filled(Net()).state_dict() | {f"more.{number}": torch.ones(2) for number in range(9)}
    with pytest.raises(InputError) as caught:
        checkpoints.fit(given(state), Net())
    assert len(caught.value.details) == 7
    assert caught.value.details[-1] == "  not in the model        and 3 more"


def test_what_would_change_the_function_is_never_left_out() -> None:
    """A scale of the outputs, a second head, an average under names of its own."""
    state = filled(Net()).state_dict()
    for extra in ("scale", "head2.weight", "ema_model.head.weight", "lossy.weight"):
        with pytest.raises(InputError, match=f"not in the model +'{extra}'"):
            checkpoints.fit(given({**state, extra: torch.ones(1)}), Net())


def test_buffers_that_a_model_makes_by_itself_may_be_in_an_old_file() -> None:
    """As position numbers of transformers; one of other values may belong to the function."""

    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("numbers", torch.arange(5), persistent=False)

    source = filled(Numbered())
    state = source.state_dict()
    said = check({**state, "numbers": torch.arange(5)}, source, filled(Numbered(), seed=1))
    assert "'numbers'" in said[0]
    with pytest.raises(InputError, match="not in the model +'numbers'"):
        checkpoints.fit(given({**state, "numbers": torch.arange(5) + 1}), Numbered())


def test_modules_of_one_name_side_by_side() -> None:
    """A model of parts that are called as wrappers call what they hold."""

    def net() -> nn.Module:
        return nn.ModuleDict({"model": nn.Linear(3, 3), "net": nn.Linear(3, 3), "out": nn.Linear(3, 2)})

    for word in ("module.", "_orig_mod.module.", "net.", ""):
        source = filled(net())
        state = {f"{word}{name}": part for name, part in source.state_dict().items()}
        assert check(state, source, filled(net(), seed=1)) == []


def test_prefixes_that_could_be_two_are_not_guessed() -> None:
    state = filled(Net()).state_dict()
    twice = {f"{word}.{name}": part for word in ("module", "model") for name, part in state.items()}
    with pytest.raises(InputError, match="does not fit") as caught:
        checkpoints.fit(given(twice), Net())
    assert "--weights module" in caught.value.hint


def test_only_another_size_is_called_that() -> None:
    with pytest.raises(InputError, match="of another shape") as caught:
        checkpoints.fit(given(nn.Linear(4, 3).state_dict()), nn.Linear(5, 3))
    assert "--model-arg" in caught.value.hint
