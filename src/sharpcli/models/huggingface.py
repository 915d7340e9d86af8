"""Models of Hugging Face's transformers: `hf` or `hf:CLASS`, built from the config.json in the folder of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from sharpcli.errors import InputError, SettingsError, first_line
from sharpcli.models.size import require_size
from sharpcli.optional import required

CONFIG = "config.json"
OUTPUT = "logits"


def build_huggingface_model(folder: Path | None, name: str | None, most: int | None = None) -> nn.Module:
    """Build the model that a config.json describes, with random weights. Code that the file names is not run.

    The implementation of attention is "eager", which can be differentiated twice, and the cache of keys and values is off.

    Args:
        folder: The folder that contains config.json; None if the weights are not in a folder.
        name: A class of transformers, such as "BertForSequenceClassification"; None for the class that config.json names.
        most: Largest allowed number of parameters; None for the number whose float32 values fit into free memory.

    Raises:
        SettingsError: transformers has no such class.
        InputError: transformers is not installed, there is no config.json, no model can be built from it, or the model has
            too many parameters.
    """
    spec = "hf" if name is None else f"hf:{name}"
    if folder is None or not (folder / CONFIG).is_file():
        raise InputError(f"The model '{spec}' needs a {CONFIG} beside the weights.", "Name the folder that has both.")
    transformers = required("transformers", f"The model '{spec}'")
    with warnings.catch_warnings(), _quiet(transformers.utils.logging):
        warnings.simplefilter("ignore")  # Warnings about names that transformers has renamed.
        try:
            config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        except Exception as error:  # transformers raises many kinds of errors.
            raise InputError(
                f"{folder / CONFIG} describes no model that transformers knows: {first_line(error)}.",
                "Name the code of the model: --model pkg.mod:CLASS or file.py:fn.",
            ) from error
        kind = _class_of(transformers, config, name, folder)
        config.use_cache = False
        require_size(lambda: _built(kind, config), spec, most)
        try:
            return _built(kind, config)
        except Exception as error:
            raise InputError(f"'{spec}' cannot be built: {first_line(error)}.", f"Check {folder / CONFIG}.") from error


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Set the log level of transformers to errors inside the block, and restore the level afterwards."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _class_of(transformers: Any, config: Any, name: str | None, folder: Path) -> type[nn.Module]:
    names = [name] if name else [str(one) for one in getattr(config, "architectures", None) or ()]
    if not names:
        raise InputError(f"{folder / CONFIG} does not name the class of the model.", "Add the class: --model hf:CLASS.")
    kind = getattr(transformers, names[0], None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        message = f"transformers has no model class called '{names[0]}'."
        raise SettingsError(message, "Name a class such as GPT2LMHeadModel or BertForSequenceClassification.")
    return kind


def _built(kind: Any, config: Any) -> nn.Module:
    model: nn.Module = kind._from_config(config, attn_implementation="eager")
    return model
