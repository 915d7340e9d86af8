"""Packages that only some models and transforms need, such as timm: imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from sharpcli.errors import InputError


def required(package: str, thing: str) -> Any:
    """Import a package that is no dependency of sharpcli.

    Args:
        package: Its name, also for pip.
        thing: What needs it, with its article, such as "The model 'timm:resnet18'".

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{thing} needs the package {package}.", f"Install it: pip install {package}.") from error
