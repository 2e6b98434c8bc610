"""Elements as private ndarrays and tensors, into memory of the caller, and by DLPack."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from archive.dtypes import NDArray
from archive.records import Array
from archive.records.payload import private_copy
from tests.optional import torch

from .conftest import StoredPayload
from .test_payload import arrays

Stored = Callable[..., tuple[Array, StoredPayload]]
WIDE = np.arange(24.0).reshape(4, 6)
STRUCTURED = np.zeros(5, np.dtype([("a", "u1"), ("b", "<f8")], align=True))
TEXT = np.array(["", "a", "b\u00e9d"])


def both(elements: NDArray) -> list[Array]:
    """Arrays over an ndarray and over its bytes."""
    array = Array(elements)
    return [array, Array(array.dtype, array.shape, array.stype, array.data)]


@given(arrays())
def test_everything_is_read(elements: NDArray) -> None:
    for array in both(elements):
        found = array.read()
        assert (found.dtype, found.shape) == (elements.dtype, elements.shape)
        assert found.tobytes() == private_copy(elements).tobytes()
        assert found.flags.c_contiguous
        assert found.flags.writeable


@pytest.mark.parametrize(
    ("elements", "index"),
    [
        (WIDE, 2),
        (WIDE, (1, 5)),
        (WIDE, np.s_[::-1, 2]),
        (WIDE, [3, 0]),
        (WIDE, WIDE > 7),
        (WIDE, np.s_[None, ..., 1]),
        (WIDE, ()),
        (WIDE.T, np.s_[1:3]),
        (WIDE[:0], np.s_[:, 2]),
        (np.array(5, ">i2"), ()),
        (np.arange(4, dtype=">i8"), -1),
        (TEXT, 1),
        (TEXT, np.s_[1:]),
        (STRUCTURED, 3),
        (STRUCTURED, "b"),
        (STRUCTURED, ["b", "a"]),
        (np.arange(3).astype(ml_dtypes.bfloat16), 2),
    ],
    ids=repr,
)
def test_an_index_is_read_as_numpy_does_and_is_private(elements: NDArray, index: Any) -> None:
    wanted = elements[index]
    for array in both(elements):
        found = array.read(index)
        assert type(found) is np.ndarray
        assert found.shape == np.shape(wanted)
        # a scalar of numpy has lost its byte order and width
        assert found.dtype == (wanted.dtype if isinstance(wanted, np.ndarray) else elements.dtype)
        assert np.array_equal(found, wanted)
        out = np.zeros((*found.shape, 2), found.dtype)[..., 0]  # not contiguous
        assert array.read(index, out) is out
        assert np.array_equal(out, wanted)
        if found.size and found.dtype.kind == "f":
            found[...] = 99
            assert np.array_equal(array.read(index), wanted)


def test_bytes_between_fields_are_copied() -> None:
    source = np.frombuffer(bytes(range(16)) * 5, STRUCTURED.dtype)
    out = np.zeros_like(source)
    Array(source).read(out=out)
    assert out.tobytes() == source.tobytes()


def test_out_is_checked() -> None:
    array = Array(WIDE)
    read_only = np.zeros((4, 6))
    read_only.flags.writeable = False
    cases: list[tuple[Any, type[Exception], str]] = [
        (np.zeros((4, 6), "f4"), TypeError, "dtype float64, not of float32"),
        (np.zeros((4, 6), ">f8"), TypeError, "dtype float64, not of >f8"),
        ([[0.0] * 6] * 4, TypeError, "not a list"),
        (np.zeros((6, 4)), ValueError, r"shape \(4, 6\), but is of shape \(6, 4\)"),
        (read_only, ValueError, "read-only"),
    ]
    for out, error, text in cases:
        with pytest.raises(error, match=text):
            array.read(out=out)
    with pytest.raises(IndexError):
        array.read(4)


def test_out_may_overlap_what_is_read(stored: Stored) -> None:
    elements = np.arange(6.0)
    stored(elements)[0].read(np.s_[:4], out=elements[2:])
    assert elements.tolist() == [0, 1, 0, 1, 2, 3]


def test_a_payload_that_cannot_read_into_memory_is_copied(stored: Stored) -> None:
    array, payload = stored(WIDE)
    found = array.read(1)
    found[:] = 0
    assert array.read(1).tolist() == WIDE[1].tolist()
    assert set(payload.reads) == {"getitem"}


@pytest.mark.parametrize("stype", ["", "numpy.ndarray.tobytes"])
def test_a_foreign_stype_has_no_elements(stype: str) -> None:
    array = Array("float32", (3,), stype, b"x")
    uses: list[Callable[[], object]] = [array.read, array.torch, array.__dlpack__]
    torch()
    for use in uses:
        with pytest.raises(TypeError, match=repr(stype)):
            use()


class TestTorch:
    @pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "bool", "int64"])
    def test_slices_of_every_type(self, name: str) -> None:
        dtype = getattr(torch(), name)
        source = torch().arange(12).reshape(4, 3).to(dtype)
        for array in both(Array(source).numpy()):
            for index in (np.s_[1:3], np.s_[:, 1], [3, 0], (2, 1), np.s_[::-1], ...):
                found = array.torch(index)
                wanted = Array(source).numpy()[index]
                assert (found.dtype, tuple(found.shape)) == (dtype, np.shape(wanted))
                assert found.float().tolist() == np.asarray(wanted, "f4").tolist()
                found.zero_()
            assert array.torch().float().tolist() == source.float().tolist()

    def test_conversion_and_device(self) -> None:
        array = Array(np.arange(6, dtype="i4").reshape(2, 3))
        found = array.torch(1, torch().bfloat16)
        assert (found.dtype, found.tolist()) == (torch().bfloat16, [3, 4, 5])
        assert array.torch(dtype=torch().float64).dtype == torch().float64
        assert array.torch(np.s_[:, 0], device="meta").shape == (2,)
        assert array.torch(device="cpu").tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_two_calls_share_nothing(self) -> None:
        torch()
        array = Array(WIDE)
        for index in (..., 0, np.s_[:]):
            one, two = array.torch(index), array.torch(index)
            assert one.data_ptr() != two.data_ptr()

    def test_big_endian_and_text(self) -> None:
        torch()
        assert Array(np.arange(3, dtype=">f4")).torch(np.s_[1:]).tolist() == [1, 2]
        with pytest.raises(TypeError, match="torch has no element type"):
            Array(TEXT).torch(0)

    def test_out_is_filled(self) -> None:
        t = torch()
        array = Array(WIDE.astype("f4"))
        parameter = t.nn.Parameter(t.zeros(4, 6))
        assert array.torch(out=parameter) is parameter
        assert parameter.detach().numpy().tolist() == WIDE.tolist()
        strided = t.zeros(6, 2).T
        assert array.torch(np.s_[1:3], out=strided).tolist() == WIDE[1:3].tolist()
        wide = t.zeros(2, 6, dtype=t.float64)
        assert array.torch(np.s_[1:3], t.float64, out=wide).tolist() == WIDE[1:3].tolist()
        swapped = Array(WIDE.astype(">f4")).torch(0, device="cpu", out=t.zeros(6))
        assert swapped.tolist() == WIDE[0].tolist()
        lazily = t.zeros(2, dtype=t.complex64).conj()
        assert Array(np.array([1 + 2j, 3j], "c8")).torch(out=lazily).tolist() == [1 + 2j, 3j]
        half = t.zeros(6, dtype=t.bfloat16)
        assert Array(WIDE.astype(ml_dtypes.bfloat16)).torch(2, out=half).tolist() == WIDE[2].tolist()

    def test_out_is_checked(self) -> None:
        t = torch()
        array = Array(WIDE.astype("f4"))
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"out": np.zeros((4, 6), "f4")}, TypeError, "a tensor in memory"),
            ({"out": t.zeros(4, 6, device="meta")}, TypeError, "on meta"),
            ({"out": t.zeros(4, 6, dtype=t.float64)}, TypeError, "give dtype= to convert"),
            ({"out": t.zeros(4, 6), "dtype": t.float64}, TypeError, "not of torch.float64"),
            ({"out": t.zeros(6, 4)}, ValueError, "shape"),
            ({"out": t.zeros(4, 6, dtype=t.float64)[:3], "dtype": t.float64}, ValueError, "shape"),
            ({"out": t.zeros(4, 6), "device": "meta"}, ValueError, "not on meta"),
        ]
        for given_, error, text in cases:
            with pytest.raises(error, match=text):
                array.torch(**given_)


class TestDLPack:
    @pytest.mark.parametrize("elements", [WIDE, WIDE.T, WIDE[:0], np.array(True), np.arange(3, dtype=">i4")])
    def test_numpy_and_torch_take_it(self, elements: NDArray) -> None:
        for array in both(elements):
            found = np.from_dlpack(array)
            assert np.array_equal(found, elements)
            assert found.dtype.isnative
            tensor = torch().from_dlpack(array)
            assert np.array_equal(tensor.numpy(), elements)
            if elements.size:
                tensor.zero_()
            assert np.array_equal(array.numpy(), elements)

    @pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
    def test_types_that_torch_alone_has(self, name: str) -> None:
        source = torch().arange(4).to(getattr(torch(), name))
        found = torch().from_dlpack(Array(source))
        assert (found.dtype, found.float().tolist()) == (source.dtype, [0, 1, 2, 3])

    def test_the_device_is_the_cpu(self) -> None:
        array = Array(WIDE)
        assert array.__dlpack_device__() == np.zeros(1).__dlpack_device__()
        assert array.__dlpack__(dl_device=(1, 0), max_version=(1, 0), copy=True)
        for wrong in ({"copy": False}, {"dl_device": (2, 0)}):
            with pytest.raises(BufferError):
                array.__dlpack__(**wrong)

    def test_types_that_nobody_has(self) -> None:
        for elements in (TEXT, STRUCTURED):
            with pytest.raises(BufferError):
                Array(elements).__dlpack__()

    def test_without_torch_numpy_says_so(self) -> None:
        code = """
import ml_dtypes, numpy as np, sys
from archive.records import Array
assert np.from_dlpack(Array(np.arange(3))).tolist() == [0, 1, 2]
try:
    Array(np.zeros(3, ml_dtypes.bfloat16)).__dlpack__()
except BufferError:
    pass
else:
    raise AssertionError
assert "torch" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", code], check=True)


def test_a_type_of_torch_may_be_a_name() -> None:
    t = torch()
    array = Array(np.arange(3.0))
    for name in ("bfloat16", "bf16", "torch.bfloat16"):
        assert array.torch(dtype=name).dtype == t.bfloat16
    assert array.torch(slice(2), "int32", "cpu").tolist() == [0, 1]
    out = t.zeros(3, dtype=t.float16)
    assert array.torch(out=out, dtype="fp16") is out
    for name in ("float", "f4", "bf61", "Tensor"):
        with pytest.raises(TypeError, match=f"'{name}' names no element type of torch"):
            array.torch(dtype=name)
