"""Check that samples have the shape of images, for models that need images."""

from __future__ import annotations

from sharpcli.errors import InputError


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Return (C, H, W), the shape of one image.

    Raises:
        InputError: `input_shape` does not have three axes.
    """
    if len(input_shape) != 3:
        hint = "Use the model mlp, which flattens its input, gpt for texts of tokens, or data of shape (N, C, H, W)."
        raise InputError(f"The model {model} needs images (C, H, W), not inputs {input_shape}.", hint)
    channels, height, width = input_shape
    return channels, height, width
