"""The nets of the papers: known parameter counts, twins in torchvision, and what each part computes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck

from sharpcli.models.blocks.residual import Block, Bottleneck, shortcut_layer
from sharpcli.models.blocks.wide_resnet import PreActivationBlock
from sharpcli.models.resolve import resolve
from tests.lanes import slow

CIFAR = (3, 32, 32)


def count(name: str, *options: str, shape: tuple[int, ...] = CIFAR, classes: int = 10) -> int:
    with torch.device("meta"):  # shapes only: the largest has 58 million parameters
        model = resolve(name, input_shape=shape, num_classes=classes, arguments=options)
    return sum(parameter.numel() for parameter in model.parameters())


def net(name: str, *options: str) -> nn.Module:
    torch.manual_seed(0)
    return resolve(name, input_shape=CIFAR, num_classes=10, arguments=options)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("c1", [], 1_757_834),
        ("resnet18", [], 11_173_962),
        ("resnet18", ["shortcut=strided"], 11_173_962),
        ("resnet50", [], 23_520_842),
        ("resnet50", ["shortcut=strided"], 23_520_842),
        ("resnet152", [], 58_156_618),
        ("wrn16-4", ["activation=pre"], 2_748_890),
        ("wrn28-10", [], 36_479_194),
        ("densenet121", [], 6_956_298),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_sizes_that_are_known(name: str, options: list[str], expected: int, norm: str) -> None:
    assert count(name, *options, f"norm={norm}") == expected


def dense_count(widths: Sequence[int]) -> int:
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    return sum(a * b + b for a, b in pairs) + sum(2 * b for _, b in pairs[:-1])


def test_dense_nets_count_by_hand() -> None:
    assert count("f1", shape=(1, 28, 28)) == dense_count([784, *[512] * 5, 10]) == 1_462_794
    assert count("f2", shape=(360,), classes=1973) == dense_count([360, *[512] * 7, 1973]) == 2_780_085


@pytest.mark.parametrize(("name", "classes", "expected"), [("c2", 10, 14_991_946), ("c4", 100, 15_038_116)])
def test_c2_counts_by_hand(name: str, classes: int, expected: int) -> None:
    widths = [3, *[64] * 2, *[128] * 2, *[256] * 3, *[512] * 6]
    convolutions = sum(9 * a * b + b + 2 * b for a, b in zip(widths[:-1], widths[1:], strict=True))
    assert count(name, classes=classes) == convolutions + dense_count([512, 512, classes]) == expected


def test_c3_is_c1_with_more_classes() -> None:
    assert count("c3", classes=100) == count("c1") + 90 * 193


@pytest.mark.parametrize("shortcut", ["strided", "pooled"])
def test_learned_shortcuts_of_resnet44_count_by_hand(shortcut: str) -> None:
    learned = sum(a * b + 2 * b for a, b in [(16, 32), (32, 64)])
    assert count("resnet44", f"shortcut={shortcut}") == count("resnet44") + learned == 661_338


@pytest.mark.parametrize(("name", "width", "n"), [("wrn16-4", 64, 2), ("wrn28-10", 160, 4)])
def test_post_activation_wide_nets_count_by_hand(name: str, width: int, n: int) -> None:
    w = [width, width, 2 * width, 4 * width]
    stages = sum(9 * a * b + (2 * n - 1) * 9 * b * b + 4 * n * b for a, b in zip(w[:-1], w[1:], strict=True))
    shortcuts = sum(a * b + 2 * b for a, b in zip(w[1:-1], w[2:], strict=True))
    assert count(name, "activation=post") == 27 * width + 2 * width + stages + shortcuts + w[-1] * 10 + 10


@pytest.mark.parametrize(
    ("name", "options", "depth"),
    [
        ("resnet50", [], 50),
        ("resnet152", [], 152),
        ("densenet121", [], 121),
        ("wrn16-4", ["activation=pre"], 16),
        ("wrn28-10", [], 28),
    ],
)
def test_prefixes_tell_the_depth(name: str, options: list[str], depth: int) -> None:
    with torch.device("meta"):
        model = resolve(name, input_shape=CIFAR, num_classes=10, arguments=options)
    layers = [key for key, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    shortcuts = [key for key in layers if "shortcut" in key]
    # The papers on wide nets count the three learned shortcuts and not the head, the others do the reverse.
    counted = len(layers) - 1 if name.startswith("wrn") else len(layers) - len(shortcuts)
    assert counted == depth


def bend(model: nn.Module) -> nn.Module:
    """Give the norms statistics, scales and shifts that no two channels share, so that none can be mistaken."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                for tensor, low in ((layer.weight, 0.5), (layer.bias, -0.5), (layer.running_mean, -0.5)):
                    tensor.uniform_(low, low + 1)
                layer.running_var.uniform_(0.5, 2)
    return model.eval()


def assert_twins(ours: nn.Module, theirs: nn.Module, pixels: int) -> None:
    """Lend our tensors to the other net in their order, and compare what both make of the same images."""
    bend(ours)
    tensors = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    images = torch.randn(2, 3, pixels, pixels)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "blocks", "shortcut", "pixels"),
    [
        ("resnet18", (2, 2, 2, 2), "strided", 13),
        ("resnet50", (3, 4, 6, 3), "pooled", 8),
        slow("resnet18", (2, 2, 2, 2), "pooled", 8),
        slow("resnet50", (3, 4, 6, 3), "strided", 13),
        slow("resnet18", (2, 2, 2, 2), "pooled", 13),
        slow("resnet50", (3, 4, 6, 3), "strided", 8),
    ],
)
def test_resnets_are_those_of_torchvision_with_another_stem(
    name: str, blocks: tuple[int, ...], shortcut: str, pixels: int
) -> None:
    theirs = ResNet(BasicBlock if name == "resnet18" else TorchvisionBottleneck, list(blocks), num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4) if shortcut == "pooled" else ():
        convolution = stage[0].downsample[0]
        convolution.stride = (1, 1)
        stage[0].downsample.insert(0, nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False))
    assert_twins(net(name, f"shortcut={shortcut}"), theirs, pixels)


def test_densenet_is_that_of_torchvision_with_another_stem() -> None:
    theirs = torchvision.models.DenseNet(8, (6, 12, 24, 16), 16, num_classes=10)
    theirs.features.conv0 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    theirs.features.norm0 = theirs.features.relu0 = theirs.features.pool0 = nn.Identity()
    assert_twins(net("densenet121", "growth=8"), theirs, 8)


def averages(images: Tensor) -> Tensor:
    """Average 2x2 pixels one window at a time; at an odd edge there are two or one."""
    height, width = images.shape[2:]
    rows = [[images[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in range(0, width, 2)] for i in range(0, height, 2)]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (5, 2), (1, 1)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_pooled_shortcut_is_pooling_then_convolution_then_norm(size: tuple[int, int], norm: str) -> None:
    torch.manual_seed(0)
    layer = bend(shortcut_layer("pooled", 6, 16, 2, norm)).double()
    assert isinstance(layer, nn.Sequential)
    images = torch.randn(3, 6, *size, dtype=torch.float64)
    convolution, last = layer[-2], layer[-1]
    assert isinstance(convolution, nn.Conv2d)
    mixed = torch.einsum("bihw,oi->bohw", averages(images), convolution.weight[:, :, 0, 0])
    if convolution.bias is not None:
        mixed = mixed + convolution.bias[:, None, None]
    torch.testing.assert_close(layer(images), last(mixed))
    assert layer(images).shape[2:] == nn.Conv2d(6, 1, 3, 2, padding=1).double()(images).shape[2:]


@pytest.mark.parametrize("kind", ["padded", "pooled", "strided"])
@pytest.mark.parametrize("make", [Block, Bottleneck])
def test_branch_and_shortcut_are_summed_in_front_of_the_last_relu(make: type[Block | Bottleneck], kind: str) -> None:
    torch.manual_seed(0)
    block = bend(make(8, 16, 2, "batch", kind))
    assert isinstance(block, Block | Bottleneck)
    images = torch.randn(2, 8, 7, 7)
    hidden = functional.relu(block.norm1(block.conv1(images)))
    hidden = block.norm2(block.conv2(hidden))
    if isinstance(block, Bottleneck):
        assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
        hidden = block.norm3(block.conv3(functional.relu(hidden)))
    torch.testing.assert_close(block(images), functional.relu(hidden + block.shortcut(images)))


@pytest.mark.parametrize("kind", ["padded", "pooled", "strided"])
def test_shortcuts_without_a_change_are_the_identity(kind: str) -> None:
    assert isinstance(shortcut_layer(kind, 8, 8, 1, "batch"), nn.Identity)


def test_padded_shortcuts_keep_every_other_pixel() -> None:
    images = torch.randn(2, 3, 7, 7)
    made = shortcut_layer("padded", 3, 5, 2, "batch")(images)
    assert torch.equal(made[:, :3], images[:, :, ::2, ::2])
    assert torch.equal(made[:, 3:], torch.zeros(2, 2, 4, 4))


def test_pre_activation_blocks_pass_the_input_on() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 8, 7, 7)
    for block in (PreActivationBlock(8, 8, 1, "batch"), PreActivationBlock(8, 12, 2, "batch")):
        bend(block)
        activated = functional.relu(block.norm1(images))
        branch = block.conv2(functional.relu(block.norm2(block.conv1(activated))))
        kept = images if block.shortcut is None else block.shortcut(activated)
        torch.testing.assert_close(block(images), branch + kept)
        with torch.no_grad():
            block.conv2.weight.zero_()
        torch.testing.assert_close(block(images), kept)
    assert block.shortcut is not None
    assert block.shortcut.stride == (2, 2)


def test_c2_drops_what_the_paper_drops() -> None:
    shares = [layer.p for layer in net("c2", "width=8").modules() if isinstance(layer, nn.Dropout)]
    assert shares == [0.3, *[0.4] * 7, 0.5, 0.5]
    still = net("c2", "width=8", "dropout=0", "norm=group").train()
    images = torch.randn(2, *CIFAR)
    assert torch.equal(still(images), still(images))
    restless = net("c2", "width=8", "norm=group").train()
    assert not torch.equal(restless(images), restless(images))


@pytest.mark.parametrize(("pixels", "left"), [(32, 1), (28, 1), (64, 2), (1, 1)])
def test_c2_pools_five_times_and_never_away(pixels: int, left: int) -> None:
    model = resolve("c2", input_shape=(1, pixels, pixels), num_classes=10, arguments=["width=2"])
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))
    assert first.in_features == 16 * left * left
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in model.modules()) == 5
    assert model.eval()(torch.randn(2, 1, pixels, pixels)).shape == (2, 10)
