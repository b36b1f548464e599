"""Tensors are written so that the library reads them, and no more memory is held for it."""

import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from skipwise.training.tensor_file import WRITTEN_AS, write_tensors


def drawn() -> dict[str, Tensor]:
    """One of each type, and shapes that are easily forgotten."""
    numbers = torch.arange(15).view(3, 5)
    return {
        **{str(kind): numbers.to(kind) for kind in WRITTEN_AS},
        "transposed": numbers.float().t(),
        "part": numbers.double()[:, 1:3],
        "one number": torch.tensor(2.5),
        "none": torch.empty(0, 4),
        'of a grad, \u00e4 "quoted"': torch.ones(3, requires_grad=True),
        "odd": torch.ones(7, dtype=torch.uint8),
    }


def test_what_is_written_the_library_reads(tmp_path: Path) -> None:
    tensors = drawn()
    write_tensors(tensors, tmp_path / "file")
    read = load_file(tmp_path / "file")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype, name
        assert torch.equal(read[name], tensor), name


def test_each_tensor_is_aligned(tmp_path: Path) -> None:
    write_tensors(drawn(), tmp_path / "file")
    with safe_open(tmp_path / "file", "pt") as file:
        for name in drawn():
            tensor = file.get_tensor(name)
            assert tensor.data_ptr() % tensor.element_size() == 0, name
    length = int.from_bytes((tmp_path / "file").read_bytes()[:8], "little")
    assert length % 8 == 0


def test_what_was_read_from_a_file_can_be_written_to_it(tmp_path: Path) -> None:
    """The library maps what it reads: a file cut short under it would kill the process."""
    file = tmp_path / "file"
    for _ in range(2):
        write_tensors(load_file(file) if file.exists() else {"a": torch.ones(100_000)}, file)
    assert torch.equal(load_file(file)["a"], torch.ones(100_000))


def test_a_file_of_nothing_is_one(tmp_path: Path) -> None:
    write_tensors({}, tmp_path / "file")
    assert load_file(tmp_path / "file") == {}


def test_a_type_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="complex64"):
        write_tensors({"a": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_the_bytes_of_the_file_are_not_held(tmp_path: Path) -> None:
    """Of 8 MB, in parts, not a tenth: Python's own memory, which the bytes would be in."""
    tensors = {str(number): torch.zeros(250_000) for number in range(8)}
    tracemalloc.start()
    write_tensors(tensors, tmp_path / "file")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 800_000
    assert (tmp_path / "file").stat().st_size > 8_000_000
