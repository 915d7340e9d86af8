"""The data of a checkpoint: the data that the user names, else the data of its training."""

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
    """Return the data that the settings name, else the data that the checkpoint records.

    Warn if the data with the recorded name have another fingerprint than the training data, or if bytes are only divided by
    255 although the checkpoint records a transform.

    Raises:
        InputError: No data are named, the data or their transform cannot be used, or the checkpoint names code that the
            settings do not name.
        SettingsError: A name or an option in the settings is unknown.
    """
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
    """Return the transform of images as a text of `--transform`; None for the default transform of the data set.

    The first of these that exists is used:

    1. the transform that the settings name;
    2. the transform that the checkpoint records, if the data are the recorded data or other images;
    3. for `folder:PATH` and a checkpoint that records no data, the evaluation transform of its torchvision or timm model.

    A checkpoint that records no data was not written by sharpcli. If case 3 has no transform, an error is raised, because
    the transform of the training is unknown and results depend on it.

    Args:
        checkpoint: The checkpoint.
        settings: Settings of the analysis.
        spec: Name of the data.
        arguments: Options of the data as "key=value" texts; with raw=True, the images of a folder have no transform.

    Raises:
        InputError: The transform is unknown, or it is code that the settings do not name.
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
    """Warn if bytes are only divided by 255, but the checkpoint was trained on images with a transform."""
    recorded = checkpoint.metadata.get("data", {}).get("transform")
    if recorded and transform is None and data.preprocessing == DIVIDED:
        progress.warn(
            f"{checkpoint.path} was trained with --transform {recorded}, but the bytes of '{data.name}' are only divided by "
            "255. If they are images of this kind, add this option."
        )
