"""A decoder-only transformer for texts, GPT-2 in small: pre-norm, causal, learned positions, one class per token.

Reference: Radford et al., Language Models are Unsupervised Multitask Learners, 2019; the sizes are not from the paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sharpcli.arguments import require_at_least
from sharpcli.errors import InputError, SettingsError
from sharpcli.models.blocks.transformer import DecoderBlock
from sharpcli.models.wiring import Layout, Wiring

_LAST = ("attention.proj.weight", "dense.2.weight")  # The last layer of each branch of a block.


class GPT(nn.Module):
    """Tokens and positions in, blocks, a last LayerNorm, and the logits of the next token out.

    Args:
        vocabulary: Number of different tokens, C.
        context: Largest number of tokens in a text.
        layers: Number of blocks.
        width: Number of channels of a token.
        heads: Number of heads of each block.
        tied: Whether the embedding of tokens is also the matrix of the output layer.
    """

    def __init__(self, vocabulary: int, context: int, layers: int, width: int, heads: int, *, tied: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(DecoderBlock(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        self._initialise()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T), T at most the context, to logits (B, T, C)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        answer: Tensor = self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions(places))))
        return answer

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Return the layout of the logits: one group of channels runs through all shortcuts. See `models.wiring`."""
        channels = (wiring.new_units(self.tokens.embedding_dim),)
        wiring.inputs_of(self.positions, channels)
        wiring.inputs_of(self.tokens, channels)
        last = wiring.outputs_of(self.norm, wiring.through(self.blocks, channels))
        return inputs if self.head.weight is self.tokens.weight else wiring.through(self.head, last)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw weights with the deviation 1/√n, n the inputs of a layer or the width of an embedding; biases are 0.

        The last layers of each branch are divided by the square root of the number of branches, as in GPT-2, so that their
        sum does not grow. GPT-2's deviation of 0.02 is meant for widths of 1,000: at 32 channels SGD hardly starts from it.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight.shape[1]))
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, part in self.blocks.named_parameters():
            if name.endswith(_LAST):
                part.div_(math.sqrt(2 * len(self.blocks)))


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    context: int | None = None,
    tied: bool = True,
) -> nn.Module:
    """Build the network; the vocabulary has `num_classes` tokens.

    Args:
        input_shape: Shape (T,) of one text of T tokens.
        num_classes: Number of different tokens C, inputs and targets alike.
        layers: Number of blocks.
        width: Number of channels of a token; the dense layers of a block have 4 times as many hidden units.
        heads: Number of heads of each block, a divisor of the width.
        context: Largest number of tokens in a text. Default: T.
        tied: Use the embedding of tokens as the matrix of the output layer, as GPT-2 does.

    Returns:
        A module that maps tokens (B, T) to (B, T, num_classes); 29,504 parameters for kjv-mini. There is no dropout.

    Raises:
        InputError: The inputs are not texts.
        SettingsError: A size is below 1, the width is not a multiple of the heads, or the context is shorter than the texts.
    """
    if len(input_shape) != 1:
        raise InputError(
            f"The model gpt needs texts of tokens (T,), not inputs {input_shape}.",
            "Use --data kjv-mini, tokens:FILE or other data with tokens, or another model.",
        )
    context = input_shape[0] if context is None else context
    for name, value in (("layers", layers), ("width", width), ("heads", heads), ("context", context)):
        require_at_least(name, value, 1)
    if width % heads:
        raise SettingsError(f"The option width is {width}, not a multiple of heads, {heads}.", "Choose width = heads × d.")
    if context < input_shape[0]:
        raise SettingsError(
            f"The option context is {context}, but the texts have {input_shape[0]} tokens.",
            "Leave it out, or cut the texts shorter: --data-arg context=N of kjv-mini, length=N of tokens:FILE.",
        )
    return GPT(num_classes, context, layers, width, heads, tied=tied)
