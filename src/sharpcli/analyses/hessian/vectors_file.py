"""The file of eigenvectors that --vectors names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from sharpcli import files
from sharpcli.errors import SettingsError
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.objective import Objective

_FORMAT = "sharpcli eigenvectors"  # In the metadata; identifies such a file.


def require_writable(path: Path) -> None:
    """Refuse to write eigenvectors over a file that holds anything else, such as the checkpoint itself.

    Raises:
        InputError: The path is not a regular file, such as a device.
        SettingsError: The file exists and holds something else.
    """
    files.destination(path)
    if path.is_file() and not files.safetensors_metadata(path).get("format") == _FORMAT:
        raise SettingsError(f"{path} already exists, and does not contain eigenvectors.", "Choose another name for --vectors.")


def write(path: Path, pairs: Eigenpairs, objective: Objective) -> None:
    """Write a safetensors file of eigenpairs.

    The tensors are "eigenvalues" (K,), "eigenvectors" (K, P), "indices" (K,), and for each eigenvector its parts in the shapes
    of the parameters, "INDEX/NAME". The entry "order" of the metadata lists the names in the order of the P coordinates.
    """
    tensors = {"eigenvalues": pairs.values, "eigenvectors": pairs.vectors.cpu().contiguous()}
    tensors["indices"] = torch.tensor(pairs.ranks)
    for rank, vector in zip(pairs.ranks, pairs.vectors.cpu(), strict=True):
        for name, part in objective.space.split(vector).items():
            tensors[f"{rank}/{name}"] = part.clone()
    content = save(tensors, metadata={"format": _FORMAT, "order": "\n".join(objective.space.names)})
    files.write_bytes(path, _in_order(content))


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, whose order is random, so that equal vectors give equal files.

    The file begins with the length of its JSON header in 8 bytes, little-endian. Positions of tensors count from its end.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]
