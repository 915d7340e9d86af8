"""Detection of option values that name code of the user, such as `file.py:fn`.

Such code is run only if the command line names it. Code that only a file names is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sharpcli.plugins import HUGGING_FACE, TIMM, TORCHVISION
from sharpcli.settings.losses import loss_is_code

FILES = ("csv", "npz", "pt", "tokens")  # Prefixes of data specifications that name one file.
WITH_PATH = (*FILES, "folder")
NO_TRANSFORM = "none"
NUMBERS_OF_TRANSFORM = ("mean", "std", "resize", "crop")


def model_is_code(spec: str) -> bool:
    """Return whether a model specification names code of the user, which is imported to build the model."""
    return ":" in spec and not spec.lower().startswith((TORCHVISION, TIMM, f"{HUGGING_FACE}:"))


def data_is_code(spec: str) -> bool:
    """Return whether a data specification names code, `file.py:name` or `pkg.mod:name`."""
    source, colon, name = spec.rpartition(":")
    if not colon or not name.replace(".", "_").isidentifier() or source.lower() in (*WITH_PATH, "torchvision"):
        return False
    return source.endswith(".py") or source.replace(".", "_").isidentifier()


def transform_is_code(text: str) -> bool:
    """Return whether a transform specification names code."""
    known = text.lower() == NO_TRANSFORM or text.partition("=")[0].strip().lower() in NUMBERS_OF_TRANSFORM
    return ":" in text and not known and not text.lower().startswith((TORCHVISION, TIMM))


_KINDS: dict[str, Callable[[str], bool]] = {
    "model": model_is_code,
    "data": data_is_code,
    "transform": transform_is_code,
    "loss": loss_is_code,
}


def named_code(settings: Mapping[str, object]) -> dict[str, str]:
    """Return those of the settings whose values name code, by name."""
    given = {name: str(settings.get(name) or "") for name in _KINDS}
    return {name: spec for name, spec in given.items() if _KINDS[name](spec)}


def code_options(settings: Mapping[str, object]) -> list[str]:
    """Return the command line options, as a list of words, that name the code in the settings."""
    return [word for name, spec in named_code(settings).items() for word in (f"--{name}", spec)]
