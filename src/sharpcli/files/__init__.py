"""Read and write files: they are written completely or not at all, and code in them is never run."""

from sharpcli.files._arrays import read_arrays
from sharpcli.files._inert import Array
from sharpcli.files._lines import read_json, read_lines
from sharpcli.files._locking import held
from sharpcli.files._opened import expanded, is_there, opened
from sharpcli.files._plain_pickles import read_plain_pickle
from sharpcli.files._reading import is_pytorch, is_safetensors, read_object, read_safetensors, safetensors_metadata
from sharpcli.files._types import ContentError, Range, conform
from sharpcli.files._walking import files_below, folders_in
from sharpcli.files._writing import destination, from_root, remove, sync_folder, unwritable, write_bytes, write_object

__all__ = [
    "Array",
    "ContentError",
    "Range",
    "conform",
    "destination",
    "expanded",
    "files_below",
    "folders_in",
    "from_root",
    "held",
    "is_pytorch",
    "is_safetensors",
    "is_there",
    "opened",
    "read_arrays",
    "read_json",
    "read_lines",
    "read_object",
    "read_plain_pickle",
    "read_safetensors",
    "remove",
    "safetensors_metadata",
    "sync_folder",
    "unwritable",
    "write_bytes",
    "write_object",
]
