"""Files of each format with bytes changed, cut, removed or put in: converted, or a typed error."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.errors import ArchiveError
from archive.tools import convert
from tests.optional import torch as require_torch

MUTATIONS = 1000
QUICK = 60
ARRAYS: dict[str, Any] = {"a": np.arange(35.0).reshape(5, 7), "b": np.arange(9), "s": np.array(["x", "yy"])}


def make_safetensors(path: Path) -> None:
    files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    files.save_file({"a": ARRAYS["a"], "b": ARRAYS["b"]}, path, {"k": "v"})


def make_index(path: Path) -> None:
    make_safetensors(path.with_name("s.safetensors"))
    path.write_text(
        '{"metadata": {"total_size": 352}, "weight_map": {"a": "s.safetensors", "b": "s.safetensors"}}'
    )


def make_npz(path: Path) -> None:
    np.savez(path, **ARRAYS)


def make_packed(path: Path) -> None:
    np.savez_compressed(path, **ARRAYS)


def make_npy(path: Path) -> None:
    np.save(path, ARRAYS["a"])


def make_pt(path: Path) -> None:
    torch = require_torch()
    tensor = torch.arange(30.0).reshape(5, 6)
    torch.save({"model": {"w": tensor, "t": tensor.clone().t()}, "epoch": 3, "l": [1, 2.5, "x", None]}, path)


def make_old_pt(path: Path) -> None:
    torch = require_torch()
    torch.save({"w": torch.arange(30.0), "n": 3}, path, _use_new_zipfile_serialization=False)


def make_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group["0"] = ARRAYS["a"]
        group.create_dataset("1", data=ARRAYS["b"], chunks=(3,), compression="gzip")


FORMATS: dict[str, Callable[[Path], None]] = {
    "m.safetensors": make_safetensors,
    "m.safetensors.index.json": make_index,
    "m.npz": make_npz,
    "packed.npz": make_packed,
    "m.npy": make_npy,
    "m.pt": make_pt,
    "old.pt": make_old_pt,
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    found, at = bytearray(data), rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind == 0:
        return data[:at]
    if kind == 1:
        for _ in range(rng.randrange(1, 8)):
            found[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:
        del found[at : at + rng.randrange(1, 64)]
    elif kind == 3:
        found[at:at] = rng.randbytes(rng.randrange(1, 32))
    elif kind == 4:
        found[at : at + 8] = rng.choice(
            [b"\xff" * 8, bytes(8), b"99999999", b"[" * 8, (1 << 40).to_bytes(8, "little")]
        )
    else:
        found[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    return bytes(found)


def require_typed(folder: Path, name: str, make: Callable[[Path], None], count: int, seed: int) -> None:
    path, out = folder / name, folder / "out.h5"
    make(path)
    data, rng, refused = path.read_bytes(), random.Random(seed), 0
    before = sorted(os.listdir(folder))
    for _ in range(count):
        path.write_bytes(mutated(data, rng))
        try:
            convert(path, out, durable=False)
        except ArchiveError:
            refused += 1
        else:
            assert archive.verify(out).ok
            out.unlink()
        assert sorted(os.listdir(folder)) == before
    assert refused > count // 3


@pytest.mark.parametrize("name", FORMATS)
def test_some_mutations(tmp_path: Path, name: str) -> None:
    require_typed(tmp_path, name, FORMATS[name], QUICK, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_mutations(tmp_path: Path, name: str) -> None:
    require_typed(tmp_path, name, FORMATS[name], MUTATIONS, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 8))
def test_many_mutations_of_hdf5(tmp_path: Path, seed: int) -> None:
    """Each starts the process that reads foreign files: all of them take ten minutes on a quiet machine."""
    require_typed(tmp_path, "m.weights.h5", make_hdf5, MUTATIONS // 5, seed)
