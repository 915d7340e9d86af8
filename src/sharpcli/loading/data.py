"""The data of a checkpoint: those that the user names, else those that it was trained on."""

from __future__ import annotations

from sharpcli import progress
from sharpcli.arguments import parse_arguments
from sharpcli.checkpoints import Checkpoint
from sharpcli.code_specs import data_is_code, transform_is_code
from sharpcli.datasets.arrays import DIVIDED
from sharpcli.datasets.resolve import is_of_images, resolve
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.transforms import default_of_torchvision
from sharpcli.errors import InputError
from sharpcli.loading.recorded import blaming, given_or_recorded, loss_name
from sharpcli.plugins import TIMM, TORCHVISION
from sharpcli.settings import AnalysisSettings
from sharpcli.user_code import never_run


def load_data(checkpoint: Checkpoint, settings: AnalysisSettings) -> DataSplits:
    """Return the data that the settings name, else those the checkpoint was trained on."""
    spec, arguments, _ = given_or_recorded(checkpoint, "data", settings.data, settings.data_arg)
    if spec is None:
        raise InputError(
            f"{checkpoint.path} does not name the data of its training.",
            "Give them with --data, such as --data cifar10 or --data npz:FILE.",
        )
    if settings.data is None and data_is_code(spec):
        raise never_run(str(checkpoint.path), "data", spec)
    loss, transform = loss_name(checkpoint, settings.loss), transform_of(checkpoint, settings, spec, arguments)
    try:
        with blaming(checkpoint, "data", on_file=settings.data is None and not settings.data_arg):
            data = resolve(
                spec,
                root=settings.data_root,
                download=settings.download,
                arguments=arguments,
                transform=transform,
                loss=loss,
            )
    except InputError as error:
        if settings.data is None:
            error.hint = f"{checkpoint.path} was trained on '{spec}'; give their present place with --data or --data-root."
        raise
    _warn_of_other_bytes(checkpoint, data, transform)
    fingerprint = checkpoint.metadata.get("data", {}).get("fingerprint")
    if settings.data is None and fingerprint is not None and not data.has_fingerprint(fingerprint):
        progress.warn(f"The data '{spec}' are not the training data of {checkpoint.path}: the fingerprints differ.")
    return data


def transform_of(checkpoint: Checkpoint, settings: AnalysisSettings, spec: str, arguments: tuple[str, ...]) -> str | None:
    """Return the text of what is done to images; None for what the data set does by itself.

    In this order: the transform that the user names; the recorded one, if the data are images; for images of a folder, the
    evaluation transform of a model of torchvision or timm. A net that was trained elsewhere on a folder of images was
    trained with a transform that nobody has named, and no choice would be safe.

    Raises:
        InputError: The transform is not known, or the file names one that is code.
    """
    record = checkpoint.metadata.get("data", {})
    if settings.transform is not None:
        return settings.transform
    recorded = record.get("transform") or None
    if recorded is not None and (settings.data is None or spec == record.get("spec") or is_of_images(spec)):
        if transform_is_code(recorded):
            raise never_run(str(checkpoint.path), "transform", recorded)
        return str(recorded)
    folder = spec.lower().startswith("folder:") and parse_arguments(arguments).get("raw") is not True
    if not folder or record:
        return None
    model = settings.model or str(checkpoint.metadata.get("model", {}).get("spec") or "")
    own = default_of_torchvision(model[len(TORCHVISION) :]) if model.lower().startswith(TORCHVISION) else None
    own = model if model.lower().startswith(TIMM) else own
    if own is None:
        raise InputError(
            f"{checkpoint.path} does not say how its images were transformed, and the results depend on it.",
            "Give it: --transform mean=A,B,C,std=A,B,C,resize=N,crop=N, --transform torchvision:WEIGHTS, or --transform none "
            "for pixels from 0 to 1.",
        )
    return own


def _warn_of_other_bytes(checkpoint: Checkpoint, data: DataSplits, transform: str | None) -> None:
    """Warn where bytes were divided by 255 only, and the net was trained on images with a transform."""
    recorded = checkpoint.metadata.get("data", {}).get("transform")
    if recorded and transform is None and data.preprocessing == DIVIDED:
        progress.warn(
            f"{checkpoint.path} was trained with --transform {recorded}, but the bytes of '{data.name}' are only divided by "
            "255. If they are images of this kind, add this option."
        )
