"""Write files completely or not at all; only files are ever replaced."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path

import torch

from sharpcli.errors import InputError
from sharpcli.files._opened import other_kind
from sharpcli.launch import is_follower

_UNFINISHED = ".part"
_KEPT = 32  # Characters of a file's name in its temporary name, which would otherwise be too long for the disk.


def write_object(path: Path, content: object, *, durable: bool = False) -> None:
    """Save plain tensors, numbers and text, completely or not at all; see `write_bytes`."""
    buffer = io.BytesIO()  # torch.save writes the name of a file into it; a buffer has none.
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue(), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file under a temporary name in the same folder, then rename it; a link stays, and its target is replaced.

    Of several processes of a run, only the first one writes.

    Args:
        path: The file; missing folders are created.
        content: The entire content.
        durable: Whether to wait for the disk, so that a power failure leaves either the old or the new file complete.

    Raises:
        InputError: The file cannot be written, or the path is that of something other than a file.
    """
    place = destination(path)
    if is_follower():
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=_prefix(place), suffix=_UNFINISHED)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, place)
        if durable:
            sync_folder(place.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file if it exists; of several processes of a run, only the first one does this."""
    if not is_follower():
        path.unlink(missing_ok=True)


def forget_unfinished(folder: Path, name: str = "") -> None:
    """Remove temporary files of a killed process, of one file or of all files in a folder, if no other process writes there."""
    start = _prefix(Path(name)) if name else "."
    for path in folder.iterdir():
        if path.name.startswith(start) and path.name.endswith(_UNFINISHED):
            path.unlink(missing_ok=True)


def destination(path: Path) -> Path:
    """Return the file that a path refers to, with links followed, whether it exists or not.

    Raises:
        InputError: It is a folder, a device, a pipe or a socket, or not a valid path.
    """
    try:
        place = Path(os.path.realpath(path))
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    if (kind := other_kind(mode)) is not None:
        raise InputError(f"Cannot write {path}: it is {kind}.", "Give the name of a file.")
    return place


def from_root(path: str | Path) -> Path:
    """Return an absolute path, with ~ replaced: it stays the same if the code of a model changes the working folder.

    Raises:
        InputError: The path begins with ~ and the name of a user who does not exist, or contains a zero byte.
    """
    if "\0" in str(path):
        raise InputError(f"Cannot write {str(path)!r}: a path cannot contain a zero byte.", "Check the path.")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise InputError(f"The path '{path}' names an unknown user.", "Check the name after the ~.") from None


def sync_folder(folder: Path) -> None:
    """Wait until the disk has stored the list of files in a folder, if the system supports this."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders.
        return
    try:
        os.fsync(descriptor)
    except OSError:  # Some network disks do not support this for folders.
        pass
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError | ValueError) -> InputError:
    """Return the error for a path that cannot be written; for a full disk it says how much space is free."""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.EFBIG:
        return InputError(f"Cannot write {path}: {reason}.", "The size of files is limited here; see 'ulimit -f'.")
    if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"Cannot write {path}: {reason}.", "Choose a folder that you may write to.")
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    return InputError(
        f"Cannot write {path}: {reason}; {free:.3g} MiB are free in {folder}.", "Free some space there, or choose another disk."
    )


def _prefix(place: Path) -> str:
    return f".{place.name[:_KEPT]}."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
