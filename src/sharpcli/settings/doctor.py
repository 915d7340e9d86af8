"""Settings of `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from sharpcli.settings.base import option


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """What to look at: the machine has no model and no data."""

    former_names: ClassVar[Mapping[str, str]] = {}
    data_root: str = option("data", "Folder with the data sets of torchvision.", "PATH")
    measure: bool | None = option(True, "Measure the speed of matrix products, which takes half a second for each device.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)
