"""Tensors in files: written whole or not at all, read without ever running code that is in them."""

from sharpcli.files._inert import Array
from sharpcli.files._locking import held
from sharpcli.files._reading import is_pytorch, is_safetensors, read_object, read_safetensors, safetensors_metadata
from sharpcli.files._writing import destination, from_root, sync_folder, unwritable, write_bytes, write_object

__all__ = [
    "Array",
    "destination",
    "from_root",
    "held",
    "is_pytorch",
    "is_safetensors",
    "read_object",
    "read_safetensors",
    "safetensors_metadata",
    "sync_folder",
    "unwritable",
    "write_bytes",
    "write_object",
]
