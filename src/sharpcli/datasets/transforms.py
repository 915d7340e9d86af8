"""Transforms, which `--transform` names: they change an image between the file and the model.

| text | transform |
|---|---|
| `none` | pixels scaled to 0..1, as by torchvision's ToTensor |
| `mean=0.5,std=0.25,resize=256,crop=224` | shorter side to `resize`, central crop of `crop` x `crop`, (pixel - mean) / std |
| `torchvision:ResNet18_Weights.DEFAULT` | the evaluation transform of these weights; the weights are not downloaded |
| `timm:resnet18` | the evaluation transform of this model of timm |
| `file.py:name`, `pkg.mod:name` | a function of a PIL image, or a function without arguments that returns such a function |

References: torchvision.transforms (Resize, CenterCrop, ToTensor, Normalize); torchvision.models.get_weight;
timm.data.create_transform.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sharpcli.code_specs import NO_TRANSFORM, NUMBERS_OF_TRANSFORM
from sharpcli.datasets.standardisation import BYTE, standardisation_formula, standardise
from sharpcli.errors import InputError, SettingsError, best_guess, closest, first_line, guessed
from sharpcli.optional import required
from sharpcli.plugins import TIMM, TIMM_LISTS, TORCHVISION
from sharpcli.user_code import errors_named, imported

_WRITE = "Write it like mean=0.485,0.456,0.406,std=0.229,0.224,0.225,resize=256,crop=224."


@dataclass(frozen=True, eq=False)
class Transform:
    """A map from the pixels of images to inputs of a model.

    Attributes:
        text: The text of `--transform` that names the transform.
        words: Description of the transform for messages and records.
        of_image: Maps one image (C, H, W), uint8, to an image of the size of the model's input, (C', H', W'). The result is
            uint8 if `of_images` is given, and floating-point if not.
        of_images: Maps results of `of_image`, (N, C', H', W'), to inputs, float32; None if `of_image` returns inputs.
        is_code: Whether the transform runs code of the user.
    """

    text: str
    words: str
    of_image: Callable[[Tensor], Tensor]
    of_images: Callable[[Tensor], Tensor] | None = None
    is_code: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W), uint8, to inputs (N, C', H', W'), float32.

        Raises:
            InputError: The images have another type or number of axes, or the transform fails or does not return a
                floating-point tensor.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            kind = f"{images.dtype} of shape {tuple(images.shape[1:])}"
            raise InputError(
                f"--transform takes images of 8 bits a colour, and one sample here is {kind}.", "Leave --transform out."
            )
        return self.numbers(torch.stack([self.one(image) for image in images]))

    def numbers(self, images: Tensor) -> Tensor:
        """Map results of `one`, (N, C', H', W'), to inputs, float32."""
        return images if self.of_images is None else self.of_images(images)

    def one(self, image: Tensor) -> Tensor:
        """Map one image (C, H, W), uint8, to the size of the model's input: to pixels, uint8, or to inputs, float32.

        Raises:
            InputError: The transform fails or does not return a floating-point tensor.
        """
        if self.of_images is not None:
            return self.of_image(image)
        with errors_named(self.text, "applied to an image"):
            numbers = self.of_image(image)
        if not isinstance(numbers, Tensor) or numbers.ndim == 0 or not numbers.is_floating_point():
            answer = f"{numbers.dtype}" if isinstance(numbers, Tensor) else type(numbers).__name__
            raise InputError(f"The transform '{self.text}' returns {answer}.", "Return a floating-point tensor.")
        return numbers.float()


def transform_named(text: str) -> Transform:
    """Return the transform that a text names.

    Raises:
        SettingsError: The text names no transform, or a number is out of range.
        InputError: A package is missing, or the user's code cannot be imported or used.
    """
    if text.lower() == NO_TRANSFORM:
        return _of_numbers(text, None, None, None, None)
    if text.partition("=")[0].strip().lower() in NUMBERS_OF_TRANSFORM:
        return _parsed(text)
    if text.lower().startswith(TORCHVISION):
        return _of_torchvision(text)
    if text.lower().startswith(TIMM):
        return _of_timm(text)
    if ":" in text:
        return _of_code(text)
    guess = best_guess(text.partition("=")[0], [*NUMBERS_OF_TRANSFORM, NO_TRANSFORM, "torchvision:", "timm:"])
    hint = f"Did you mean {guess}? " if guess else ""
    raise SettingsError(
        f"--transform '{text}' names no transform.", f"{hint}{_WRITE} Or none, torchvision:WEIGHTS, file.py:fn."
    )


def standardisation(mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Return the transform (pixel - mean) / std; its text names a transform with bitwise equal results."""
    text = f"mean={','.join(map(repr, mean))},std={','.join(map(repr, std))}"
    return _of_numbers(text, mean, std, None, None)


def _parsed(text: str) -> Transform:
    """Return the transform of a text `mean=A,B,C,std=...,resize=N,crop=N`, in any order."""
    values: dict[str, list[float]] = {}
    name = ""
    for word in text.split(","):
        head, equals, number = word.rpartition("=")
        if equals:
            name = head.strip().lower()
            if name not in NUMBERS_OF_TRANSFORM:
                raise SettingsError(f"--transform has '{name}'.", closest(name, NUMBERS_OF_TRANSFORM))
            if name in values:
                raise SettingsError(f"--transform has '{name}' twice.", _WRITE)
            values[name] = []
        try:
            values[name].append(float(number))
        except ValueError:
            raise SettingsError(f"--transform has '{word}', which is no number.", _WRITE) from None
    for name in ("resize", "crop"):
        if name in values and not (len(values[name]) == 1 and values[name][0].is_integer() and 1 <= values[name][0] <= 2**15):
            raise SettingsError(
                f"--transform has no valid size after {name}=.", f"Give a number of pixels, such as {name}=224."
            )
    if ("mean" in values) != ("std" in values) or len(values.get("mean", ())) != len(values.get("std", ())):
        raise SettingsError("--transform needs as many numbers behind std= as behind mean=.", _WRITE)
    if any(not 0 < number < float("inf") for number in values.get("std", ())):
        raise SettingsError("--transform divides by std, which must be greater than 0.", _WRITE)
    resize, crop = (int(values[name][0]) if name in values else None for name in ("resize", "crop"))
    return _of_numbers(text, values.get("mean"), values.get("std"), resize, crop)


def _of_numbers(
    text: str, mean: Sequence[float] | None, std: Sequence[float] | None, resize: int | None, crop: int | None
) -> Transform:
    def standardised(images: Tensor) -> Tensor:
        channels = images.shape[1]
        means, deviations = list(mean or [0.0]), list(std or [1.0])
        if len(means) not in (1, channels):
            raise InputError(f"--transform has {len(means)} means for images of {channels} channels.", "Give one for each.")
        if len(means) == 1:
            means, deviations = means * channels, deviations * channels
        return standardise(images, means, deviations)

    def of_image(image: Tensor) -> Tensor:
        if resize is None and crop is None:
            return image
        return _pixels(_cropped(_resized(_picture(image), resize), crop))

    formula = f"pixels / {BYTE}" if mean is None or std is None else standardisation_formula(mean, std)
    steps = [f"shorter side to {resize} pixels"] * (resize is not None) + [f"middle {crop}x{crop}"] * (crop is not None)
    words = ", ".join([*steps, formula])
    return Transform(text, words, of_image, standardised)


def _of_torchvision(text: str) -> Transform:
    from torchvision import models  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    name = text[len(TORCHVISION) :]
    try:
        weights = models.get_weight(name)
    except Exception as error:  # torchvision raises errors of several kinds.
        hint = guessed(name, map(str, _all_weights(models)), "Write it like torchvision:ResNet18_Weights.DEFAULT.")
        raise SettingsError(f"torchvision has no weights called '{name}': {first_line(error)}.", hint) from error
    return _of_function(text, weights.transforms(), f"as for torchvision's {weights}")


def default_of_torchvision(model: str) -> str | None:
    """Return the text of the evaluation transform of torchvision's default weights for a model; None if it has none."""
    from torchvision import models  # noqa: PLC0415

    try:
        return f"{TORCHVISION}{models.get_model_weights(model.lower()).DEFAULT}"
    except Exception:  # There is no such model, or it has no weights.
        return None


def _all_weights(models: Any) -> list[Any]:
    return [entry for name in models.list_models(module=models) for entry in models.get_model_weights(name)]


def _of_timm(text: str) -> Transform:
    timm = required("timm", f"The transform '{text}'")
    name = text[len(TIMM) :]
    configuration = timm.models.get_pretrained_cfg(name)
    if configuration is None:
        raise SettingsError(f"timm has no model called '{name}'.", guessed(name, timm.list_models(), TIMM_LISTS))
    settings = timm.data.resolve_data_config(pretrained_cfg=configuration.to_dict())
    return _of_function(text, timm.data.create_transform(**settings, is_training=False), f"as for timm's {name}")


def _of_code(text: str) -> Transform:
    with imported(text) as (_, attribute):
        if not callable(attribute):
            raise InputError(f"'{text}' names no function.", "Name a function of an image, or one that returns a transform.")
        function = attribute
        if _needs_nothing(function):
            with errors_named(text, "called"):
                function = function()
            if not callable(function):
                raise InputError(f"'{text}' returned a {type(function).__name__}, not a transform.", "Return a function.")
    return replace(_of_function(text, function, f"by {text}"), is_code=True)


def _needs_nothing(function: Callable[..., Any]) -> bool:
    """Return whether a function can be called without arguments; such a function returns a transform."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not inspect.Parameter.empty or p.kind in kinds for p in parameters)


def _of_function(text: str, function: Callable[[Any], Any], words: str) -> Transform:
    """Return the transform of a function of a PIL image; it is called twice for the first image, to refuse random functions."""
    checked: list[bool] = []

    def of_image(image: Tensor) -> Tensor:
        numbers: Tensor = function(_picture(image))
        if not checked:
            checked.append(True)
            if isinstance(numbers, Tensor) and not torch.equal(numbers, function(_picture(image))):
                raise InputError(
                    f"The transform '{text}' is random: it maps one image to different numbers.",
                    "Name the transform of evaluation, without augmentation.",
                )
        return numbers

    return Transform(text, words, of_image)


def _picture(image: Tensor) -> Any:
    from torchvision.transforms.functional import to_pil_image  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    return to_pil_image(image)


def _pixels(picture: Any) -> Tensor:
    from torchvision.transforms.functional import pil_to_tensor  # noqa: PLC0415

    pixels: Tensor = pil_to_tensor(picture)
    return pixels


def _resized(picture: Any, size: int | None) -> Any:
    from torchvision.transforms.functional import resize  # noqa: PLC0415

    return picture if size is None else resize(picture, size)


def _cropped(picture: Any, size: int | None) -> Any:
    from torchvision.transforms.functional import center_crop  # noqa: PLC0415

    return picture if size is None else center_crop(picture, size)
