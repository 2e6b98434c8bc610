"""Copies of records: equal to what was given, tied where it was tied, and untouched by later changes."""

from types import SimpleNamespace

import numpy as np
import pytest

import archive
from archive.checkpoints.snapshot import take_snapshot

DATA = np.arange(4.0).tobytes()


def flower_array(dtype: str, shape: tuple[int, ...], data: object = DATA) -> SimpleNamespace:
    return SimpleNamespace(dtype=dtype, shape=shape, stype="raw", data=data)


def test_flower_arrays_over_the_same_bytes_keep_dtype_and_shape() -> None:
    kinds = {"a": ("float64", (4,)), "b": ("float64", (2, 2)), "c": ("float32", (8,)), "d": ("float64", (4,))}
    copies = take_snapshot({key: flower_array(*kind) for key, kind in kinds.items()})["model"]
    assert {key: (array.dtype, array.shape) for key, array in copies.items()} == kinds
    assert all(array.data is DATA for array in copies.values())


def test_a_buffer_of_a_flower_array_is_copied() -> None:
    data = bytearray(DATA)
    copies = take_snapshot({"a": flower_array("float64", (4,), memoryview(data))})
    data[:] = bytes(len(data))
    assert copies["model"]["a"].data == DATA


@pytest.mark.parametrize("kind", ["ndarray", "tensor", "Array"])
def test_tied_arrays_stay_tied(kind: str, tmp_path: object) -> None:
    array: object = np.ones(1000, "f4")
    if kind == "tensor":
        array = pytest.importorskip("torch").ones(1000)
    elif kind == "Array":
        array = archive.Array(np.ones(1000, "f4"))
    report = archive.save(take_snapshot({"a": array, "b": array}), f"{tmp_path}/a.h5")
    assert report.array_bytes < 2 * 4000


def test_views_of_one_tensor_are_copied_one_by_one() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.int32)
    copies = take_snapshot(
        {"a": tensor, "b": tensor[:3], "c": tensor.view(torch.float32), "d": tensor.view(2, 3)}
    )
    tensor[:] = 7
    for key, shape in (("a", (6,)), ("b", (3,)), ("c", (6,)), ("d", (2, 3))):
        assert copies["model"][key].shape == shape
    assert copies["model"]["a"].numpy().tolist() == list(range(6))
    assert copies["model"]["c"].dtype == "float32"
