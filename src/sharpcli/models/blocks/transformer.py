"""The block of a decoder-only transformer: causal attention and dense layers, each after a LayerNorm and with a shortcut."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sharpcli.models.wiring import Layout, Wiring


class CausalAttention(nn.Module):
    """Attention with several heads, of each token to itself and to earlier tokens, softmax(QKᵀ/√d) V.

    The attention kernel of torch is used; every analysis runs it by formulas that can be differentiated twice (see
    `runtime.exact_arithmetic`).

    Args:
        width: Number of channels of a token.
        heads: Number of heads, a divisor of the width; d = width / heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # The rows of all queries, then of all keys, then of all values.
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        answer: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return answer

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Record the heads, and the channels in each head; the outputs are added to the inputs. See `models.wiring`."""
        size = len(self.proj.weight) // self.heads
        heads = (wiring.new_units(self.heads),)
        pairs = tuple(wiring.new_units(size) for _ in range(self.heads))  # A query and the key that it is multiplied with.
        values = tuple(wiring.new_units(size) for _ in range(self.heads))
        wiring.into(self.qkv, inputs, outputs=3 * heads)
        wiring.outputs_of(self.qkv, (*pairs, *pairs, *values))
        wiring.into(self.proj, heads, outputs=inputs)
        wiring.inputs_of(self.proj, values)
        return inputs


class DecoderBlock(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + dense(norm(x)) with 4 x width hidden units and GELU.

    Args:
        width: Number of channels of a token.
        heads: Number of heads, a divisor of the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), CausalAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        tokens = tokens + self.attention(self.norm1(tokens))
        answer: Tensor = tokens + self.dense(self.norm2(tokens))
        return answer

    def wire_units(self, wiring: Wiring, inputs: Layout) -> Layout:
        """Return the layout of the outputs, which is that of the inputs; see `models.wiring`."""
        wiring.through(self.attention, wiring.outputs_of(self.norm1, inputs))
        hidden = wiring.through(self.dense[0], wiring.outputs_of(self.norm2, inputs))
        return wiring.into(self.dense[2], hidden, outputs=inputs)
