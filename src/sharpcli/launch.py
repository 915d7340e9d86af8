"""How torchrun has started this process: alone, or as one of several processes of a run; see `processes`."""

from __future__ import annotations

import os
from contextlib import suppress

from sharpcli.errors import SettingsError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # Set by torchrun.
_joined_as: int | None = None


def launched() -> tuple[int, int] | None:
    """Return the rank of this process and their number if torchrun has started several, else None.

    Raises:
        SettingsError: The variables that torchrun sets are not numbers.
    """
    given = [os.environ.get(name) for name in _VARIABLES]
    if None in given or given[1] == "1":
        return None
    try:
        rank, size, port = int(given[0] or ""), int(given[1] or ""), int(given[3] or "")
    except ValueError:
        rank, size, port = 0, 0, 0
    if not (0 <= rank < size and 0 < port < 2**16):
        raise SettingsError(
            f"The environment has {', '.join(f'{name}={value}' for name, value in zip(_VARIABLES, given, strict=True))}.",
            "Start several processes with torchrun; for one process, remove WORLD_SIZE from the environment.",
        )
    return rank, size


def is_launched_follower() -> bool:
    """Return whether torchrun has started this process, and it is not the first one."""
    with suppress(SettingsError):
        return (launched() or (0, 1))[0] > 0
    return False


def local_rank() -> int:
    """Return the number of this process on its machine, which is that of its CUDA device."""
    given = os.environ.get("LOCAL_RANK", "0")
    return int(given) if given.isdecimal() else 0


def remember(rank: int) -> None:
    """Remember until this process ends that it has joined other processes, and its rank among them."""
    global _joined_as
    _joined_as = rank


def has_joined() -> bool:
    """Return whether this process has joined other processes."""
    return _joined_as is not None


def is_follower() -> bool:
    """Return whether this process works for the first one of a run, so that it writes no file and no message."""
    return bool(_joined_as)
