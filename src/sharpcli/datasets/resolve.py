"""Loading of the data set that a spec names, such as `fashion-mini`, `folder:PATH`, `npz:FILE` or `file.py:fn`."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sharpcli import files, plugins
from sharpcli.arguments import check_arguments, parse_arguments
from sharpcli.code_specs import FILES, WITH_PATH, data_is_code
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.suggestions import require_kind, suggestion
from sharpcli.datasets.transforms import transform_named
from sharpcli.datasets.user_data import load_from_code
from sharpcli.errors import SettingsError, closest
from sharpcli.losses import one_hot, refused
from sharpcli.settings.losses import LossSpec
from sharpcli.user_code import changed_at

_EMBEDDED = ("fashion-mini", "kjv-mini")  # Data sets in the package, without a folder.
_CODE = "code"


def resolve(
    spec: str,
    *,
    root: str,
    download: bool = False,
    arguments: Sequence[str] = (),
    transform: str | None = None,
    loss: str = "ce",
) -> DataSplits:
    """Load a data set; the last data set is returned again if all arguments are equal and the files have not changed.

    Args:
        spec: A name, of which case, dashes and underscores are ignored; `torchvision:NAME`; `folder:PATH`; the path of a file
            after `csv:`, `npz:`, `pt:` or `tokens:`; or code of the user, `file.py:name` or `pkg.mod:name`, which is run
            (see `datasets.user_data`).
        root: Folder of the downloaded data sets; `~` is expanded in this path and in the path of the spec.
        download: Download a data set of torchvision if it is missing.
        arguments: Options as "key=value" texts.
        transform: The transform of images; see `datasets.transforms`. Default: that of the data set.
        loss: The loss for which the data are used; targets that the loss ignores are not counted as classes.

    Returns:
        The splits. Callers share them, so do not write to their tensors.

    Raises:
        SettingsError: A name is unknown, or an option is malformed, unknown or out of range.
        InputError: Files are missing or damaged, the splits do not match, or the targets are one-hot.
    """
    name, path = _parse(spec)
    path_or_root = str(files.expanded(path or root))
    require_kind(name, path_or_root)
    loss_spec, options = LossSpec.parse(loss), parse_arguments(arguments)
    given: dict[str, object] = {}
    if name != _CODE:
        load = plugins.load("datasets/readers", name).load
        check_arguments(load, options, reserved=("root", "download", "transform", "ignore_index"))
        if transform is not None and not _takes(load, "transform"):
            raise SettingsError(f"The data '{spec}' are no images, so they take no --transform.", "Leave --transform out.")
    if name == _CODE or _takes(load, "ignore_index"):
        given["ignore_index"] = loss_spec.ignore_index
    if name == _CODE:
        given["unlabelled"] = loss_spec.is_code
    stamp = _stamp(name, Path(path_or_root)) if name in WITH_PATH else ()
    stamp += _stamp(FILES[0], files.expanded(str(options["test"]))) if name in FILES and options.get("test") else ()
    stamp += tuple(changed_at(text) for text in (path, transform or ""))
    where = "" if name in _EMBEDDED else path if name == _CODE else path_or_root
    data = _load(name, where, download, tuple(arguments), transform, tuple(given.items()), stamp)
    require_classes(data, loss_spec)
    return data


def require_classes(data: DataSplits, loss: LossSpec) -> None:
    """Refuse one-hot integer targets; of all losses, only bce accepts them.

    Raises:
        InputError: The targets are one-hot.
    """
    targets = data.train.targets
    # If an axis of the inputs has the same length, the targets can be classes of tokens; this is decided by the outputs.
    if loss.name != "bce" and one_hot(targets) and targets.shape[1] not in data.input_shape:
        raise refused(targets)


# Only one data set is stored: checkpoints that are compared usually share one, and two may not fit in memory.
@lru_cache(maxsize=1)
def _load(
    name: str,
    root: str,
    download: bool,
    texts: tuple[str, ...],
    transform: str | None,
    given: tuple[tuple[str, object], ...],
    stamp: tuple[int, ...],
) -> DataSplits:
    keywords: dict[str, Any] = dict(given)
    if transform is not None:
        keywords["transform"] = transform_named(transform)
    if name == _CODE:
        return load_from_code(root, parse_arguments(texts), **keywords)
    module = plugins.load("datasets/readers", name)
    splits: DataSplits = module.load(root, download=download, **keywords, **parse_arguments(texts))
    return splits


def _takes(load: Callable[..., object], parameter: str) -> bool:
    return parameter in inspect.signature(load).parameters


def is_of_images(spec: str) -> bool:
    """Return whether a spec names a data set or a folder of images, to which a transform applies."""
    return spec.partition(":")[0].lower() not in FILES and not data_is_code(spec)


def _parse(spec: str) -> tuple[str, str]:
    """Return the name of the reader and its path, "" if it needs none; for code of the user, "code" and the spec."""
    known = plugins.names("datasets/readers")
    scheme, colon, argument = spec.partition(":")
    if scheme.lower() in WITH_PATH:
        if not argument:
            raise SettingsError(f"The data set '{spec}' lacks a path.", f"Write {scheme.lower()}:PATH.")
        return scheme.lower(), argument
    candidates = [name for name in known if name not in WITH_PATH]
    if data_is_code(spec) and _can_be_imported(spec.rpartition(":")[0]):
        return _CODE, spec
    if colon and scheme.lower() == "torchvision":
        candidates = [name for name in candidates if name not in _EMBEDDED]
    elif colon:
        argument = spec  # An unknown scheme; the error message contains the whole spec.
    by_letters = {_letters(name): name for name in candidates}
    word = argument if colon else spec
    if _letters(word) not in by_letters:
        schemes = ["folder:PATH", *(f"{scheme}:FILE" for scheme in FILES), "file.py:fn"]
        listed = candidates if colon else [*candidates, *schemes]
        raise SettingsError(f"There is no data set called '{spec}'.", suggestion(spec) or closest(word.lower(), listed))
    return by_letters[_letters(word)], ""


def _can_be_imported(source: str) -> bool:
    """Return whether the text before the colon is a file or a module; if not, it is probably a misspelt scheme."""
    top = source.partition(".")[0]
    if source.endswith(".py") or Path(f"{top}.py").is_file() or Path(top).is_dir():
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except ValueError:  # For example for __main__.
        return False


def _letters(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _stamp(name: str, path: Path) -> tuple[int, ...]:
    """Return hashes of path, time and size of the file or of all files of the folder, to detect changes; () without files."""
    parts = [path / part for part in ("train", "test", "val")]
    paths = (
        [str(path)] if name in FILES else [file for part in parts if os.path.isdir(part) for file in files.files_below(part)]
    )
    states = ((file, os.stat(file)) for file in paths if os.path.exists(file))
    return tuple(hash((file, state.st_mtime_ns, state.st_size)) for file, state in states)
