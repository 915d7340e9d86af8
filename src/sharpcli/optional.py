"""Import of packages that only some models and transforms need, such as timm."""

from __future__ import annotations

import importlib
from typing import Any

from sharpcli.errors import InputError


def required(package: str, thing: str) -> Any:
    """Return a package that is not a dependency of sharpcli.

    Args:
        package: Name of the package, for the import and for pip.
        thing: What needs the package, as the subject of a sentence, such as "The model 'timm:resnet18'".

    Raises:
        InputError: The package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{thing} needs the package {package}.", f"Install it: pip install {package}.") from error
