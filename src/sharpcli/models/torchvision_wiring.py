"""The wiring of models and blocks of torchvision, as `wire_units` defines it for models of sharpcli; see `wiring.py`.

Each function takes the module, the wiring and the layout of the inputs, and returns the layout of the outputs. The table
contains the names of classes as texts, so that torchvision is not imported. It does not apply to subclasses, because a subclass
may have a different `forward`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from sharpcli.models.wiring import Layout, Wiring


def torchvision_wiring(module: nn.Module) -> Callable[[Wiring, Layout], Layout] | None:
    """Return the function that records the wiring of a module of torchvision; None if its class is not in the table."""
    wire = _TABLE.get(f"{type(module).__module__}.{type(module).__qualname__}")
    return None if wire is None else partial(wire, module)


def _basic_block(block: Any, wiring: Wiring, inputs: Layout) -> Layout:
    hidden = wiring.through(block.bn1, wiring.through(block.conv1, inputs))
    return wiring.through(block.bn2, wiring.into(block.conv2, hidden, outputs=_shortcut(block, wiring, inputs)))


def _bottleneck(block: Any, wiring: Wiring, inputs: Layout) -> Layout:
    hidden = wiring.through(block.bn1, wiring.through(block.conv1, inputs))
    hidden = wiring.through(block.bn2, wiring.through(block.conv2, hidden))
    return wiring.through(block.bn3, wiring.into(block.conv3, hidden, outputs=_shortcut(block, wiring, inputs)))


def _shortcut(block: Any, wiring: Wiring, inputs: Layout) -> Layout:
    return inputs if block.downsample is None else wiring.through(block.downsample, inputs)


def _resnet(model: Any, wiring: Wiring, inputs: Layout) -> Layout:
    for part in (model.conv1, model.bn1, model.layer1, model.layer2, model.layer3, model.layer4, model.fc):
        inputs = wiring.through(part, inputs)
    return inputs


def _features_and_classifier(model: Any, wiring: Wiring, inputs: Layout) -> Layout:
    return wiring.through(model.classifier, wiring.through(model.features, inputs))


_TABLE: dict[str, Callable[[Any, Wiring, Layout], Layout]] = {
    "torchvision.models.resnet.BasicBlock": _basic_block,
    "torchvision.models.resnet.Bottleneck": _bottleneck,
    "torchvision.models.resnet.ResNet": _resnet,
    "torchvision.models.vgg.VGG": _features_and_classifier,
    "torchvision.models.alexnet.AlexNet": _features_and_classifier,
}
