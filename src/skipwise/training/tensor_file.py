"""How tensors come to lie in a file: as safetensors, one after the other.

    tensors by name  ->  write_tensors  ->  file

- The file is the header's length (8 bytes, little-endian), the header (JSON: type, shape and place
  of each tensor) and the tensors, largest numbers first, so that each is aligned
  (github.com/huggingface/safetensors, "Format"). A test reads it with the library.
- The library's own writers hold all bytes of the file, or hide why a write failed; here nothing is
  held but what is given, and one tensor where it lies on a GPU or in strides.

Is read by `checkpoint` and `unfinished`. No randomness.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

WRITTEN_AS: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What each type is called in a file."""
_ALIGNED_TO = 8


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors of any shapes to a file.

    Raises:
        OSError: The disk is full or the file cannot be written.
        KeyError: A tensor is of a type that `WRITTEN_AS` has not.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, end = {}, 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": WRITTEN_AS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    written = json.dumps(header, separators=(",", ":")).encode()
    written = written.ljust(-(-len(written) // _ALIGNED_TO) * _ALIGNED_TO)
    file.unlink(missing_ok=True)  # what is written may be mapped from the file that was there
    with file.open("wb") as out:
        out.write(len(written).to_bytes(8, "little"))
        out.write(written)
        for name in names:
            flat = tensors[name].detach().cpu().flatten()
            out.write(flat.view(torch.uint8).numpy().data)
