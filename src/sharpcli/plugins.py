"""Plug-ins: each file of certain folders is one; its name is that of the file, with dashes instead of underscores.

The folders are models/architectures, datasets/readers, measures, and modes, methods and augmentations of training. A file
whose name starts with an underscore is not a plug-in; several plug-ins use it.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

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


@dataclass(frozen=True)
class Description:
    """What the file of a plug-in says, read without running it.

    Attributes:
        docstring: Its docstring.
        constants: The values of its constants, by name, as far as they are literals or constants of a file next to it.
        defaults: The defaults of the arguments of a function, by name.
    """

    docstring: str
    constants: dict[str, Any]
    defaults: dict[str, Any]


def described(folder: str, name: str, function: str) -> Description:
    """Return what the file of a plug-in says, without importing it and the libraries that it needs.

    Args:
        folder: Folder of the plug-in.
        name: Name of the plug-in.
        function: Name of the function whose defaults are returned.
    """
    tree = _parsed(folder, name)
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"sharpcli.{folder.replace('/', '.')}."):
            near = _constants(_parsed(folder, str(node.module).rpartition(".")[2]), {})
            constants |= {alias.asname or alias.name: near[alias.name] for alias in node.names if alias.name in near}
    constants = _constants(tree, constants)
    defaults: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            defaults = {argument.arg: _value(default, constants) for argument, default in pairs if default is not None}
    return Description(ast.get_docstring(tree) or "", constants, defaults)


def _parsed(folder: str, name: str) -> ast.Module:
    return ast.parse((_PACKAGE / folder / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8"))


def _constants(tree: ast.Module, known: dict[str, Any]) -> dict[str, Any]:
    """Return the constants at the top of a file that are literals or made of known constants."""
    values = dict(known)
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        with contextlib.suppress(ValueError):
            value = _value(node.value, values)
            several = isinstance(target, ast.Tuple)
            named = zip(target.elts, value, strict=True) if several else [(target, value)]  # type: ignore[attr-defined]
            values |= {name.id: one for name, one in named if isinstance(name, ast.Name)}
    return values


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """Return the value of a literal that may contain known constants.

    Raises:
        ValueError: It is no such literal.
    """

    class Known(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            return ast.parse(repr(known[name.id]), mode="eval").body if name.id in known else name

    return ast.literal_eval(Known().visit(copy.deepcopy(node)))


def summary(folder: str, name: str) -> str:
    """Return the first line of the docstring of a plug-in, without importing it."""
    docstring = ast.get_docstring(_parsed(folder, name)) or ""
    return docstring.partition("\n")[0]
