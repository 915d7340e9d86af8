"""Memory of the host that this process can get: what the system has, within the limits of its container or batch job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sharpcli.errors import InputError

_UNKNOWN = 2**32


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can get without swapping.

    File caches count as available, since the system gives them up. On Linux every control group of the process has a say:
    Docker, Kubernetes and Slurm limit memory by them. Where the system says nothing, the answer is 4 GiB.

    Args:
        root: Folder that holds `proc` and `sys`.
    """
    return min([_of_system(root), *_of_control_groups(root)])


def require_memory(needed: int, thing: str, hint: str) -> None:
    """Refuse to read more than this process can hold.

    Args:
        needed: Bytes.
        thing: What would take them, in the plural.
        hint: What the user can do, as a sentence.

    Raises:
        InputError: It is more than is available.
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
    except (AttributeError, ValueError, OSError):  # macOS and Windows do not say it this way.
        return _UNKNOWN


def _of_control_groups(root: Path) -> Iterator[int]:
    """Give what the limit of each control group leaves: of the group of this process and of all groups around it."""
    for folder, limit, used, cache in _folders(root):
        with contextlib.suppress(OSError, ValueError):  # No such file, or "max" for no limit.
            most = int((folder / limit).read_text())
            taken = int((folder / used).read_text()) - int(_fields(folder / "memory.stat").get(cache, "0"))
            yield max(most - taken, 0)


def _folders(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Give the folder of each control group, and how its version names the limit, what is used, and the part that is cache."""
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
