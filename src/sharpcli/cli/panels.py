"""The groups of commands and options in --help, and their order: what is used most comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

QUESTIONS = ("Is it sharp?", "What lies between?", "How far has it gone?", "Train", "Look inside")
COMMON, MORE = "Common options", "More options"
_LAST = ("plot", "json", "csv")  # Common options of every command, after its own.
_OF_COMMAND = {
    "hessian": ("topk", "bottomk", "trace", "density", "per_layer", "blocks", "along_run", "split", "samples"),
    "sharpness": ("measure", "list", "epsilon", "subspace", "split", "samples"),
    "compare": ("metrics", "measure", "epsilon", "init", "split", "samples"),
    "watch": ("metrics", "measure", "every", "state", "epsilon", "init", "split", "samples"),
    "interpolate": ("path", "points", "range", "align", "curvature", "split", "samples"),
    "surface": ("axes", "points", "range", "split", "samples"),
    "distance": ("per_layer", "init", "fit_from", "fit_to"),
    "train": (
        "recipe", "list_recipes", "mode", "model", "data", "lr", "batch_size", "epochs", "steps", "stop_train_loss", "seed",
        "out", "resume",
    ),
    "inspect": ("expect",),
    "doctor": ("measure",),
    "reparam": ("layer", "factor", "into", "logits", "attention"),
}  # fmt: skip
# The other groups in their order, and what is in them. A group that an option names itself is after these of its command.
_GROUPS: Mapping[str, Sequence[str]] = {
    "Several runs": ("sweep", "init_from", "overwrite"),
    "Updates": (
        "optimizer", "momentum", "momentum_rule", "weight_decay", "clip", "batch_size", "chunk_size", "amp", "channels_last",
    ),
    "Which matrix": ("operator", "which", "params", "above", "ggn_split", "bn", "bn_block"),
    "Accuracy, time and memory": (
        "tol", "max_hvp", "max_minutes", "memory", "certify", "confirm", "engine", "compile", "probes", "density_steps",
        "trace_tol", "iterations", "restarts", "draws", "eigenvector", "bezier_steps", "bezier_batch", "chunk_size", "state",
    ),
    MORE: (),
    "Model, data and loss": (
        "model", "model_arg", "num_classes", "weights", "ignore_keys", "allow_pickle", "data", "data_arg", "transform",
        "data_root", "download", "loss", "output", "bn", "split", "samples", "task",
    ),
    "Device and random numbers": ("device", "dtype", "seed", "deterministic"),
    "Look of the figure": ("style", "size", "dpi"),
    "Output": ("vectors", "strict", "show_config", "quiet", "verbose", "debug", "help"),
}  # fmt: skip
_ONLY_OF = {"Several runs": "train", "Updates": "train", "Which matrix": "hessian"}


def panel_of(command: str, option: str, given: str | None = None) -> str:
    """Return the group of an option.

    Args:
        command: Name of the command.
        option: Name of the option, with underscores.
        given: The group that the option itself names, if it is not one of the common options.
    """
    if option in _OF_COMMAND.get(command, ()) or option in _LAST:
        return COMMON
    if given:
        return given
    return next((name for name, names in _GROUPS.items() if option in names and _ONLY_OF.get(name, command) == command), MORE)


def place_of(command: str, option: str, panel: str) -> tuple[int, int]:
    """Return where an option is in --help: the place of its group, and its place in the group; equal ones keep their order."""
    if panel == COMMON:
        names = (*_OF_COMMAND.get(command, ()), *_LAST)
        return 0, names.index(option) if option in names else len(names)
    groups = list(_GROUPS)
    if panel not in groups:
        return 1 + groups.index(MORE), 0
    names = tuple(_GROUPS[panel])
    return 1 + groups.index(panel), names.index(option) if option in names else len(names)
