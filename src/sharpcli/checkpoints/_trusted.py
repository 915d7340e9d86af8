"""Files that can be opened only by running code in them: `--allow-pickle`, for files that the user trusts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpcli import progress
from sharpcli.errors import InputError, described
from sharpcli.user_code import importable


def read_trusted(place: Path) -> Any:
    """Return the content of a file, with the state dicts of the models in it in place of these models.

    The file can run any code. Modules in the working folder and next to the file can be imported.

    Raises:
        InputError: The code fails, or a class is not found.
    """
    progress.warn(f"{place} is opened by running the code in it (--allow-pickle).")
    try:
        with importable(Path.cwd()), importable(place.parent.absolute()):
            content = torch.load(place, map_location="cpu", weights_only=False)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # Code of the user may raise anything, also SystemExit.
        raise InputError(
            f"{place} cannot be opened: {described(error)}.",
            "Make its classes importable, or save model.state_dict() where the model is defined.",
        ) from error
    if isinstance(content, Mapping):
        return {key: _without_model(value) for key, value in content.items()}
    return _without_model(content)


def _without_model(value: Any) -> Any:
    return dict(value.state_dict()) if isinstance(value, nn.Module) else value
