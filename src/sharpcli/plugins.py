"""Plug-ins: each file of certain folders is one; its name is that of the file, with dashes instead of underscores.

The folders are models/architectures, datasets/readers, measures, and modes, methods and augmentations of training. A file
whose name starts with an underscore is not a plug-in; several plug-ins use it.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from sharpcli.errors import SettingsError, closest

TORCHVISION = "torchvision:"
TIMM = "timm:"
TIMM_LISTS = "timm.list_models() lists its models."  # A hint.
LIGHTNING = "lightning:"
HUGGING_FACE = "hf"
_NOUNS = {
    "architectures": "model",
    "readers": "data set",
}  # The words in messages, if they differ from the folders.
_PACKAGE = Path(__file__).parent


def names(folder: str) -> list[str]:
    """Return the names of the plug-ins of a folder, such as "models/architectures", without importing any."""
    modules = pkgutil.iter_modules([str(_PACKAGE / folder)])
    return sorted(module.name.replace("_", "-") for module in modules if not module.name.startswith("_"))


def load(folder: str, name: str) -> ModuleType:
    """Return the module of a plug-in.

    Raises:
        SettingsError: The folder has no plug-in of that name.
    """
    known = names(folder)
    if name not in known:
        last = folder.rsplit("/", 1)[-1]
        noun = _NOUNS.get(last, last.rstrip("s"))
        raise SettingsError(f"There is no {noun} called '{name}'.", closest(name, known))
    return importlib.import_module(f"sharpcli.{folder.replace('/', '.')}.{name.replace('-', '_')}")


def summary(folder: str, name: str) -> str:
    """Return the first line of the docstring of a plug-in, without importing it."""
    source = (_PACKAGE / folder / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n")[0]
