"""A file or folder that one process works on is held by it, so that a second process does not spoil the work."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from sharpcli.errors import InputError
from sharpcli.files._writing import destination, forget_unfinished, unwritable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def held(place: Path, option: str, *, folder: bool) -> Iterator[None]:
    """Hold a file or a folder for this process alone.

    The system locks a small file in the folder, or beside the file. The lock ends with the process, also where that is
    killed; the small file alone holds nothing. On a disk without locks nothing is held.

    Args:
        place: What is to be held; folders are made.
        option: That names it, such as --state, for the hint.
        folder: Whether it is a folder.

    Raises:
        InputError: Another process holds it, and is holder; or the lock cannot be written.
    """
    lock = place / ".lock" if folder else destination(place).with_name(f".{place.name[:64]}.lock")
    if fcntl is None:
        yield
        return
    made = [parent for parent in lock.absolute().parents if not parent.exists()]
    descriptor = None
    try:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _acquired(lock, place, option)
            if descriptor is not None:
                forget_unfinished(lock.parent, "" if folder else destination(place).name)
        except OSError as error:
            raise unwritable(place, error) from error
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)  # While it is locked: nobody else can have taken this file meanwhile.
            os.close(descriptor)
        for parent in made:  # What was made for the lock alone is not left behind.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _acquired(lock: Path, place: Path, option: str) -> int | None:
    """Lock the file and write into it who has; None where the disk knows no locks."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.read(descriptor, 4096))
            os.close(descriptor)
            raise InputError(
                f"{place} is in use by {holder}.", f"Wait until that has ended, or choose another place with {option}."
            ) from None
        except OSError:
            os.close(descriptor)
            return None
        if _is_there(lock, descriptor):
            about = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(about).encode())
            return descriptor
        os.close(descriptor)  # Its holder has just removed it.


def _is_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(content: bytes) -> str:
    """Return which process has locked a file, in words."""
    try:
        about = json.loads(content)
        return f"process {about['process']} on {about['host']}, since {about['since']}"
    except (ValueError, KeyError, TypeError):  # It has not written so far who it is.
        return "another process"
