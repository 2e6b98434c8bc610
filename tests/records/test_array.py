"""Array: its three ways in, its elements, its equality and copies."""

import copy
import gc
import pickle
import subprocess
import sys
import timeit
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from archive.records import Array, BytesPayload, NdarrayPayload, Shape, array_from_numpy

from .conftest import StoredPayload
from .test_payload import arrays, saved

Stored = Callable[..., tuple[Array, StoredPayload]]
PARTS: dict[str, Any] = {"dtype": "float32", "shape": (3,), "stype": "numpy.ndarray", "data": b"x"}


def raw(**changes: Any) -> Array:
    return Array(**(PARTS | changes))


# Construction


@pytest.mark.parametrize("positional", range(5))
def test_four_values_positional_keyword_or_both(positional: int) -> None:
    names = list(PARTS)
    array = Array(*list(PARTS.values())[:positional], **{name: PARTS[name] for name in names[positional:]})
    assert {name: getattr(array, name) for name in names} == PARTS


def test_shape_of_either_generation() -> None:
    for shape in ((2, 3), [2, 3]):
        array = raw(shape=shape)
        assert array.shape == (2, 3)
        assert array.shape == [2, 3]
        assert isinstance(array.shape, tuple)


def test_dtype_and_stype_are_free_text() -> None:
    array = Array("", (), "", b"anything")
    assert (array.dtype, array.shape, array.stype, array.data) == ("", (), "", b"anything")
    assert raw(stype="numpy.ndarray.tobytes").stype == "numpy.ndarray.tobytes"


def test_data_is_the_callers_object() -> None:
    data = b"x" * 1000
    assert raw(data=data).data is data


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        ((), {}),
        ((*PARTS.values(), 1), {}),
        (("float32", (3,)), {}),
        (tuple(PARTS.values()), {"dtype": "float32"}),
        (("float32",), PARTS),
        ((np.zeros(3),), {"dtype": "float64"}),
        ((np.zeros(3),), {"ndarray": np.zeros(3)}),
        ((np.zeros(3), np.zeros(3)), {}),
        (tuple(PARTS.values()), {"ndarray": np.zeros(3)}),
        ((), PARTS | {"ndarray": np.zeros(3)}),
        (([1, 2],), {}),
        (("float32",), {}),
        ((3,), {}),
        ((np.float32(3),), {}),
        ((), {"ndarray": [1, 2]}),
        ((), {"unknown": 1}),
        ((), PARTS | {"dtype": np.dtype("f4")}),
        ((), PARTS | {"stype": 1}),
        ((), PARTS | {"shape": 3}),
        ((), PARTS | {"shape": (3.0,)}),
        ((), PARTS | {"shape": [np.int64(3)]}),
        ((), PARTS | {"data": bytearray(b"x")}),
        ((), PARTS | {"data": memoryview(b"x")}),
        ((), PARTS | {"data": "x"}),
    ],
)
def test_wrong_construction_is_a_type_error(args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as caught:
        Array(*args, **keywords)
    text = (
        "Invalid arguments for Array. Expected either a PyTorch tensor, a NumPy ndarray, or explicit "
        "dtype/shape/stype/data values."
    )
    assert str(caught.value).startswith(text) or "unexpected keyword argument 'unknown'" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [Array, lambda x: Array(ndarray=x), Array.from_numpy_ndarray, array_from_numpy],
    ids=["positional", "keyword", "classmethod", "array_from_numpy"],
)
def test_from_ndarray(make: Callable[[Any], Array]) -> None:
    source = np.arange(6, dtype=">f4").reshape(2, 3)
    array = make(source)
    assert (array.dtype, array.shape, array.stype) == (">f4", (2, 3), "numpy.ndarray")
    assert array.data == saved(source)


def test_from_ndarray_is_a_snapshot() -> None:
    source = np.zeros(3)
    array = Array(source)
    source[0] = 9
    assert array.numpy()[0] == 0
    assert array.data == saved(np.zeros(3))


def test_from_ndarray_refuses_objects_and_non_arrays() -> None:
    with pytest.raises(ValueError, match="Python objects"):
        Array(np.array([None]))
    with pytest.raises(ValueError, match="Python objects"):
        Array(np.zeros(2, [("a", "f4"), ("b", "O")]))
    with pytest.raises(ValueError, match=r"^Object arrays cannot be saved"):
        Array.from_numpy_ndarray(np.array([None]))
    with pytest.raises(TypeError, match=r"^Expected NumPy ndarray, got <class 'list'>"):
        Array.from_numpy_ndarray([1, 2])  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 1 has none")
def test_from_ndarray_refuses_variable_length_strings() -> None:
    with pytest.raises(ValueError, match="Python objects"):
        Array(np.array(["a"], np.dtypes.StringDType()))


def test_from_ndarray_subclass_is_its_plain_elements() -> None:
    masked = np.ma.masked_array([1, 2], mask=[False, True])
    assert Array(masked).numpy().tolist() == [1, 2]
    assert type(Array(masked).numpy()) is np.ndarray


@given(arrays())
def test_round_trip_by_bytes_and_by_elements(array: np.ndarray[Any, Any]) -> None:
    kept = Array(array)
    assert kept.data == saved(array)
    assert kept.dtype == str(array.dtype)
    given_bytes = Array(kept.dtype, kept.shape, kept.stype, saved(array))
    assert given_bytes == kept
    for source in (kept, given_bytes):
        elements = source.numpy()
        assert (elements.dtype, elements.shape) == (array.dtype, array.shape)
        assert elements.tobytes() == array.tobytes()
        assert (source.nbytes, source.ndim, source.size) == (array.nbytes, array.ndim, array.size)


def test_from_payload_is_unchecked_and_cheap(stored: Stored) -> None:
    payload = stored(np.zeros(3))[1]
    shape = Shape((3,))
    array = Array.from_payload("float64", shape, "numpy.ndarray", payload)
    assert array.payload is payload
    assert array.shape is shape
    assert Array.from_payload("float64", (3,), "s", payload).shape == [3]
    seconds = min(
        timeit.repeat(lambda: Array.from_payload("float64", shape, "s", payload), number=2000, repeat=5)
    )
    assert seconds / 2000 < 5e-6  # 0.2 us alone on a quiet machine


def test_from_payload_makes_the_subclass() -> None:
    class Own(Array):
        __slots__ = ()

    payload = BytesPayload(b"")
    assert type(Own.from_payload("", (), "", payload)) is Own
    assert type(Own(np.zeros(2))) is Own


def test_payload_of_each_way_in() -> None:
    assert isinstance(raw().payload, BytesPayload)
    assert isinstance(Array(np.zeros(2)).payload, NdarrayPayload)
    with pytest.raises(AttributeError):
        raw().payload = BytesPayload(b"")


# Elements


def test_numpy_of_an_eager_array_is_a_writable_copy() -> None:
    for array in (Array(np.zeros(3)), Array("float64", (3,), "numpy.ndarray", saved(np.zeros(3)))):
        for elements in (array.numpy(), array.numpy(copy=True)):
            elements[:] = 9
        assert array.numpy().tolist() == [0, 0, 0]


def test_numpy_of_a_lazy_array_is_what_the_payload_gives(stored: Stored) -> None:
    array, payload = stored(np.zeros(3))
    assert not array.numpy().flags.writeable
    array.numpy(copy=True)[0] = 9
    assert array.numpy()[0] == 0
    assert payload.reads == ["numpy(False)", "numpy(True)", "numpy(False)"]


@pytest.mark.parametrize("stype", ["", "numpy.ndarray.tobytes", "torch.tensor"])
def test_elements_of_another_stype_are_a_type_error_naming_it(stype: str) -> None:
    array = raw(stype=stype)
    for read in (array.numpy, lambda: array[0], lambda: np.asarray(array)):
        with pytest.raises(TypeError, match=repr(stype)):
            read()


def test_bad_bytes_raise_what_upstream_raises() -> None:
    with pytest.raises(EOFError):
        raw(data=b"").numpy()
    with pytest.raises(ValueError, match="pickle"):
        raw(data=b"x").numpy()


def test_ml_dtypes_come_back_by_name() -> None:
    source = np.array([1.5, -2], ml_dtypes.bfloat16)
    array = Array(source)
    assert array.dtype == "bfloat16"
    back = Array("bfloat16", [2], "numpy.ndarray", array.data)
    assert back.numpy().dtype == ml_dtypes.bfloat16
    assert back.numpy().tolist() == [1.5, -2]


def test_getitem_reads_through_the_payload(stored: Stored) -> None:
    array, payload = stored(np.arange(12.0).reshape(3, 4))
    assert array[1, 2] == 6
    assert array[1:, ::2].tolist() == [[4, 6], [8, 10]]
    assert array[[0, 2], 1].tolist() == [1, 9]
    assert set(payload.reads) == {"getitem"}
    with pytest.raises(IndexError):
        array[3]
    with pytest.raises(ValueError, match="read-only"):
        Array(np.zeros(3))[:2][0] = 1


def test_numpy_takes_it_as_an_array() -> None:
    array = Array(np.arange(3.0))
    assert np.asarray(array).tolist() == [0, 1, 2]
    assert np.asarray(array, dtype="i4").dtype == np.int32
    assert np.add(array, 1).tolist() == [1, 2, 3]
    own = np.array(array)
    own[0] = 9
    assert array.numpy()[0] == 0


def test_array_protocol_of_both_numpys() -> None:
    array = Array(np.arange(3.0))
    assert array.__array__().tolist() == [0, 1, 2]
    assert array.__array__(np.dtype("f8"), copy=False).dtype == np.float64
    assert array.__array__(None, copy=True).flags.writeable
    assert not array.__array__(copy=False).flags.writeable
    assert array.__array__("f4", copy=True).dtype == np.float32
    with pytest.raises(ValueError, match="without a copy"):
        array.__array__("f4", copy=False)


def test_array_protocol_does_not_copy_a_lazy_array(stored: Stored) -> None:
    source = np.arange(3.0)
    array, _ = stored(source)
    assert np.shares_memory(np.asarray(array), source)


def test_sizes_are_answered_without_reading(stored: Stored) -> None:
    array, payload = stored(np.zeros((2, 3), "f4"))
    assert (array.nbytes, array.ndim, array.size) == (24, 2, 6)
    assert "152 bytes" in repr(array)
    assert payload.reads == []


def test_size_of_a_scalar_and_of_nothing() -> None:
    assert Array(np.array(1.0)).size == 1
    assert Array(np.zeros((3, 0))).size == 0


def test_data_may_be_assigned_as_upstream() -> None:
    array = raw()
    array.data = b"new"
    assert array.data == b"new"
    with pytest.raises(TypeError):
        array.data = bytearray(b"x")  # type: ignore[assignment]


# Dataclass manners


def test_equality_over_all_four() -> None:
    assert raw() == raw()
    assert raw() == raw(shape=[3])
    for change in ({"dtype": "f"}, {"shape": (4,)}, {"stype": ""}, {"data": b"y"}, {"data": b"xx"}):
        assert raw() != raw(**change)
    assert raw() != 3
    assert raw() != PARTS


def test_equality_of_lazy_and_eager(stored: Stored) -> None:
    array, payload = stored(np.arange(3.0))
    assert array == Array(np.arange(3.0))
    assert array != Array(np.zeros(3))
    payload.reads.clear()
    assert array != Array(np.zeros(4))
    assert array != Array("float64", (3,), "numpy.ndarray", b"x")
    assert array == copy.copy(array)
    assert payload.reads == []


def test_another_class_is_not_equal() -> None:
    class Own(Array):
        __slots__ = ()

    assert raw() != Own(**PARTS)


def test_unhashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(raw())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int, stored: Stored) -> None:
    lazy = stored(np.arange(3.0))[0]
    for array in (raw(), Array(np.arange(3.0)), Array(np.ones(2, ml_dtypes.bfloat16)), lazy):
        back = pickle.loads(pickle.dumps(array, protocol))
        assert back == array
        assert type(back.shape) is Shape
    assert isinstance(pickle.loads(pickle.dumps(lazy, protocol)).payload, StoredPayload)
    big = np.zeros(100_000)
    assert len(pickle.dumps(stored(big)[0], protocol)) < 1000


def test_copies_share_the_payload(stored: Stored) -> None:
    lazy, payload = stored(np.arange(3.0))
    for array in (raw(), Array(np.arange(3.0)), lazy):
        for other in (copy.copy(array), copy.deepcopy(array)):
            assert other is not array
            assert other == array
            assert other.payload is array.payload
    assert payload.reads == []
    twice = copy.deepcopy([lazy, lazy])
    assert twice[0] is twice[1]


def test_repr_spells_short_data_and_elides_long() -> None:
    assert repr(raw()) == "Array(dtype='float32', shape=(3,), stype='numpy.ndarray', data=b'x')"
    assert repr(raw(data=b"x" * 10**6)) == (
        "Array(dtype='float32', shape=(3,), stype='numpy.ndarray', data=<1000000 bytes>)"
    )
    assert len(repr(Array(np.zeros(10**5)))) < 200


def test_goes_away_without_the_collector() -> None:
    gc.disable()
    try:
        array = Array(np.zeros(3))
        gone = weakref.ref(array)
        del array
        assert gone() is None
    finally:
        gc.enable()


def test_records_import_nothing_heavy() -> None:
    code = (
        "import sys, archive.records\n"
        "heavy = {'torch', 'flwr', 'h5py', 'ml_dtypes', 'fsspec'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
