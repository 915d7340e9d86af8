"""Memory of the host that is available to this process, within the limits of its container or batch job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sharpcli.errors import InputError

_UNKNOWN = 2**32


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can allocate without swapping.

    File caches count as available, since the system can free them. On Linux the limits of all control groups of the process
    apply; Docker, Kubernetes and Slurm use them to limit memory. If the system does not report its memory, 4 GiB is assumed.

    Args:
        root: Folder that contains `proc` and `sys`.
    """
    return min([_of_system(root), *_of_control_groups(root)])


def require_memory(needed: int, thing: str, hint: str) -> None:
    """Refuse data that are larger than the available memory.

    Args:
        needed: Number of bytes.
        thing: The name of the data for the message, in the plural.
        hint: What the user can do, as a sentence.

    Raises:
        InputError: `needed` is more than the available memory.
    """
    available = available_memory()
    if needed > available:
        message = f"{thing} take {needed / 2**30:.1f} GiB, but only {available / 2**30:.1f} GiB are free."
        raise InputError(message, hint)


def _of_system(root: Path) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(_fields(root / "proc/meminfo")["MemAvailable:"]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # macOS and Windows do not have these names.
        return _UNKNOWN


def _of_control_groups(root: Path) -> Iterator[int]:
    """Yield the bytes left under the limit of each control group: that of this process, and all that contain it."""
    for folder, limit, used, cache in _folders(root):
        with contextlib.suppress(OSError, ValueError):  # No such file, or "max" for no limit.
            most = int((folder / limit).read_text())
            taken = int((folder / used).read_text()) - int(_fields(folder / "memory.stat").get(cache, "0"))
            yield max(most - taken, 0)


def _folders(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield the folder of each control group, and the names of its files for limit and usage and of its field for the cache."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                names, base = ("memory.max", "memory.current", "inactive_file"), root / "sys/fs/cgroup"
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                base = root / "sys/fs/cgroup/memory"
            else:
                continue
            inner = PurePosixPath(path.lstrip("/"))
            for group in (inner, *inner.parents):
                yield base / group, *names


def _fields(path: Path) -> dict[str, str]:
    """Return the first two words of each line of a file, as name and value."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: words[1] for words in lines if len(words) > 1}
