"""What the nets are trained on; nothing is fetched."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from sharpcli.datasets.readers import fashion_mini
from sharpcli.inputs import main_tensor

# Long, old and stable modules, in alphabetical order; which Python they come from is in the conditions of a run.
_MODULES = (
    "_pydecimal argparse ast calendar cgitb configparser csv dataclasses datetime difflib dis doctest enum ftplib functools "
    "gettext heapq imaplib inspect ipaddress locale mailbox mimetypes nntplib ntpath optparse os pdb pickle pickletools "
    "platform plistlib posixpath pprint pydoc random shutil smtplib socket ssl statistics subprocess tarfile tempfile "
    "textwrap threading tokenize traceback turtle typing uuid zipfile"
)


def fashion(count: int, *, side: int = 28, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return the first training images of Fashion-MNIST, standardised, (count, channels, side, side), and their classes.

    Args:
        count: At most 10,000.
        side: 28; 32, with a border; or 16, every pixel the mean of four of those.
        channels: Equal ones.
    """
    train = fashion_mini.load().train
    images, classes = main_tensor(train.inputs)[:count].float(), train.targets[:count]
    if side != 28:
        images = functional.pad(images, (2, 2, 2, 2), value=float(images.min()))
        images = functional.avg_pool2d(images, 32 // side)
    return images.repeat(1, channels, 1, 1), classes


def text(count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return pieces of the standard library's source, as bytes (count, length), in random order, and the bytes that follow.

    There are fewer of them where the modules of `_MODULES` are not long enough.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    places = [folder / f"{name}.py" for name in _MODULES.split()]
    source = b"".join(place.read_bytes() for place in places if place.exists())
    stream = torch.tensor(list(source), dtype=torch.long)
    count = min(count, (len(stream) - 1) // length)
    order = torch.randperm((len(stream) - 1) // length, generator=torch.Generator().manual_seed(0))[:count]
    starts = (order * length)[:, None] + torch.arange(length)
    return stream[starts], stream[starts + 1]
