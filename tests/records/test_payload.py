"""The payloads that live in memory."""

import io
import pickle
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.records.payload import BytesPayload, NdarrayPayload, private_copy


def saved(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ml_dtypes: "custom dtypes are saved as void"
        np.save(buffer, array, allow_pickle=False)
    # ml_dtypes calls float8_e5m2 "<f1", a name that np.load does not know; ours is void as for all others.
    return buffer.getvalue().replace(b"'<f1'", b"'<V1'")


def npy(array: np.ndarray[Any, Any]) -> BytesPayload:
    return BytesPayload(saved(array), str(array.dtype))


def test_bytes_are_kept_as_the_same_object() -> None:
    data = b"abc"
    payload = BytesPayload(data)
    assert payload.data() is data
    assert payload.data_nbytes == payload.nbytes == 3


def test_nbytes_of_npy_bytes_leave_out_the_header() -> None:
    array = np.zeros((2, 3), "f4")
    assert npy(array).nbytes == 24
    assert npy(array).data_nbytes == 152


def test_bytes_numpy_is_private_and_writable_whatever_copy_says() -> None:
    payload = npy(np.arange(3.0))
    for copy in (False, True):
        elements = payload.numpy(copy)
        elements[0] = 9
        assert payload.numpy(copy)[0] == 0


def test_bytes_getitem_is_a_read_only_view() -> None:
    part = npy(np.arange(6.0)).getitem(slice(2, 4))
    assert part.tolist() == [2, 3]
    assert not part.flags.writeable


def test_bytes_keep_fortran_order() -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    elements = npy(array).numpy()
    assert elements.flags.f_contiguous
    assert np.array_equal(elements, array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
def test_bytes_of_odd_shapes(shape: tuple[int, ...]) -> None:
    assert npy(np.zeros(shape)).numpy().shape == shape
    assert npy(np.zeros(shape)).getitem(...).shape == shape


def test_bytes_with_something_behind_the_npy_read_as_numpy_reads_them() -> None:
    payload = BytesPayload(saved(np.arange(3.0)) + b"more", "float64")
    assert payload.numpy().tolist() == [0, 1, 2]
    assert payload.nbytes == payload.data_nbytes
    assert not payload.getitem(...).flags.writeable
    payload.numpy()[0] = 1


def test_bytes_that_are_no_npy_raise_what_numpy_raises() -> None:
    with pytest.raises(EOFError):
        BytesPayload(b"").numpy()
    with pytest.raises(ValueError, match="allow_pickle"):
        BytesPayload(b"no npy at all").numpy()


def test_bytes_never_unpickle() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        BytesPayload(buffer.getvalue(), "object").numpy()


def test_bytes_restore_ml_dtypes_by_name() -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    assert npy(array).numpy().dtype == ml_dtypes.bfloat16
    assert npy(array).getitem(0) == 1.5
    # A name of another size does not fit the bytes: they stay what the header says.
    assert BytesPayload(saved(array), "float8_e5m2").numpy().dtype == np.dtype("V2")


def test_ndarray_is_taken_without_a_copy() -> None:
    array = np.arange(6.0)
    payload = NdarrayPayload(array)
    assert payload.array is array
    assert np.shares_memory(payload.getitem(...), array)


def test_ndarray_hands_out_nothing_that_changes_it() -> None:
    payload = NdarrayPayload(np.arange(6.0))
    payload.numpy(False)[0] = 9
    payload.numpy(True)[0] = 9
    payload.writable()[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        payload.getitem(...)[0] = 9
    assert payload.array[0] == 0
    assert payload.array.flags.writeable


def test_ndarray_sizes_are_known_without_serialising() -> None:
    payload = NdarrayPayload(np.zeros((2, 3), "f4"))
    assert payload.nbytes == 24
    assert payload.data_nbytes == len(payload.data()) == 152


def test_private_copy_keeps_the_bytes_between_fields() -> None:
    padded = np.dtype("i1,i8", align=True)
    array = np.frombuffer(bytes(range(64)), padded)
    for layout in (array, array.reshape(2, 2), array[::2], np.asfortranarray(array.reshape(2, 2)).T):
        elements = private_copy(layout)
        assert elements.tobytes() == b"".join(bytes(layout[i].data) for i in np.ndindex(layout.shape))
    assert NdarrayPayload(array).data().endswith(bytes(range(64)))
    assert npy(array).numpy().view("u1").tolist() == list(saved(array)[-64:])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_payloads_pickle(protocol: int) -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    for payload in (npy(array), NdarrayPayload(array)):
        back = pickle.loads(pickle.dumps(payload, protocol))
        assert back.data() == payload.data()
        assert back.numpy().tolist() == [1.5, -2]


def test_a_member_of_an_odd_name_is_spelled_alike_under_every_python() -> None:
    """`np.save` spells it as ``repr`` does, which changes with the Unicode of the Python."""
    array = np.array([(1.5,)], [("\U0001fae8\n'", "<f4")])
    data = NdarrayPayload(array).data()
    assert b"[('\\U0001fae8\\x0a\\'', '<f4')]" in data
    assert np.load(io.BytesIO(data)).tolist() == array.tolist()
    assert np.load(io.BytesIO(data)).dtype == array.dtype


# Every kind of element type numpy can save, plus a layout. np.save spells plain names of members alike.

STRUCTURED = st.sampled_from(
    [
        np.dtype([("a", "<i4"), ("b", ">f8", (2,)), ("c", "U3")]),
        np.dtype([("x", [("y", "i1"), ("z", "?")])]),
        np.dtype([("e e", "f4")]),
    ]
)
ELEMENTS = st.one_of(hnp.scalar_dtypes(), hnp.byte_string_dtypes(), hnp.unicode_string_dtypes(), STRUCTURED)
ML = [
    getattr(ml_dtypes, n)
    for n in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "int4", "uint4")
]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    array = draw(hnp.arrays(draw(ELEMENTS), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "transposed"]))
    if layout == "F":
        return np.asfortranarray(array) if array.ndim else array
    if layout == "strided" and array.ndim:
        return array[::2]
    if layout == "reversed" and array.ndim:
        return array[..., ::-1]
    if layout == "transposed":
        return array.T
    return array


@given(arrays())
def test_data_is_what_np_save_writes(array: np.ndarray[Any, Any]) -> None:
    payload = NdarrayPayload(private_copy(array))
    assert payload.data() == saved(array)
    assert payload.data_nbytes == len(saved(array))
    assert NdarrayPayload(array).data() == saved(array)
    back = npy(array)
    assert back.nbytes == array.nbytes
    elements = back.numpy()
    assert elements.dtype == array.dtype
    assert elements.shape == array.shape
    assert elements.tobytes() == array.tobytes()
    assert elements.flags.writeable


@pytest.mark.parametrize("kind", ML)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_data_of_ml_dtypes_is_what_np_save_writes(kind: Any, shape: tuple[int, ...]) -> None:
    array = np.ones(shape).astype(kind)
    for layout in (array, np.asfortranarray(array).reshape(shape, order="A"), array.T):
        payload = NdarrayPayload(private_copy(layout))
        assert payload.data() == saved(layout)
        back = npy(layout).numpy()
        assert back.dtype == layout.dtype
        assert back.tobytes() == layout.tobytes()
