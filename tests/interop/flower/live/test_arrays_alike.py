"""Our Array and ArrayRecord do what Flower's do: each test asks the same of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.interop.flower.live.comparisons import alike, kind_of, text_of
from tests.interop.flower.live.names import (
    Names,
    has_old_names,
    has_three_spaces,
    has_today_names,
    make_array,
    small,
)
from tests.interop.flower.live.samples import CONFIGS, METRICS, odd_arrays, plain_arrays

pytest.importorskip("flwr")


@alike()
def test_value_that_is_no_array(lib: Names) -> Any:
    return [text_of(lambda bad=bad: lib.Arrays().__setitem__("k", bad)) for bad in (1, None, np.ones(2))]


@alike()
def test_counted_bytes(lib: Names) -> Any:
    full = {key: value for key, value in CONFIGS.items() if value not in ("", b"", [])}
    return (
        lib.Arrays(plain_arrays(lib)).count_bytes(),
        lib.Arrays(odd_arrays(lib)).count_bytes(),
        lib.Metrics(dict(METRICS)).count_bytes(),
        lib.Configs(full).count_bytes(),
        [getattr(lib, kind)().count_bytes() for kind in ("Arrays", "Metrics", "Configs")],
    )


@alike(differs=True)
def test_counted_bytes_of_nothing(lib: Names) -> Any:
    nothing: list[Any] = ["", b"", []]
    return [kind_of(lambda value=value: lib.Configs({"k": value}).count_bytes()) for value in nothing]


@alike()
def test_arrays_of_a_record_are_new_or_the_same(lib: Names) -> Any:
    array = small(lib, 1)
    return lib.Arrays({"a": array}, keep_input=True)["a"] is array


@alike()
def test_ndarrays_not_kept(lib: Names) -> Any:
    if has_old_names(lib):
        pytest.skip("ParametersRecord takes no ndarrays")
    given = [np.ones(2), np.zeros(3)]
    kept = lib.Arrays(given)
    before = len(given)
    record = lib.Arrays(given, keep_input=False)
    arrays = record.to_numpy_ndarrays(keep_input=False)
    return list(kept), before, given, list(record), [array.tolist() for array in arrays]


@alike()
def test_arguments_of_an_array_record(lib: Names) -> Any:
    if has_old_names(lib):
        pytest.skip("ParametersRecord takes arrays only")
    array = np.ones(2)
    calls: list[Callable[[], Any]] = [
        lambda: lib.Arrays([array], {"a": small(lib, 1)}),
        lambda: lib.Arrays([array], numpy_ndarrays=[array]),
        lambda: lib.Arrays(numpy_ndarrays=[array], array_dict={}),
        lambda: lib.Arrays((array,)),
        lambda: lib.Arrays(5),
        lambda: lib.Arrays([1]),
        lambda: lib.Arrays({"a": 1}),
        lambda: lib.Arrays({1: small(lib, 1)}),
        lambda: lib.Arrays(array_dict=[array]),
        lambda: lib.Arrays(numpy_ndarrays={"a": small(lib, 1)}),
        lambda: lib.Arrays({}),
        lambda: lib.Arrays([]),
        lambda: lib.Arrays(None),
        lambda: lib.Arrays(numpy_ndarrays=[array]),
        lambda: lib.Arrays([np.array([None])]),
    ]
    return [kind_of(call) for call in calls]


@alike()
def test_arguments_of_an_array(lib: Names) -> Any:
    if has_three_spaces(lib):
        pytest.skip("Array checks no arguments")
    shape = lib.shape((1,))
    array = np.ones(1)
    calls: list[Callable[[], Any]] = [
        lib.Array,
        lambda: lib.Array("f4", shape, ""),
        lambda: lib.Array("f4", shape, "", b"", b""),
        lambda: lib.Array("f4", shape, "", b"", dtype="f4"),
        lambda: lib.Array(array, dtype="f4"),
        lambda: lib.Array(array, ndarray=array),
        lambda: lib.Array(array, array),
        lambda: lib.Array(1),
        lambda: lib.Array([1]),
        lambda: lib.Array(ndarray=[1]),
        lambda: lib.Array(1, shape, "", b""),
        lambda: lib.Array("f4", "11", "", b""),
        lambda: lib.Array("f4", lib.shape((1.5,)), "", b""),
        lambda: lib.Array("f4", shape, 1, b""),
        lambda: lib.Array("f4", shape, "", bytearray(b"x")),
        lambda: lib.Array("f4", shape, "", "text"),
        lambda: lib.Array("f4", shape, "", b""),
        lambda: lib.Array("f4", shape, stype="", data=b""),
        lambda: lib.Array(dtype="f4", shape=shape, stype="", data=b""),
        lambda: lib.Array(ndarray=array),
        lambda: lib.Array(np.array([None])),
    ]
    return [kind_of(call) for call in calls]


@alike(differs=lambda lib: not has_three_spaces(lib))
def test_shape_of_the_other_type(lib: Names) -> Any:
    """Ours takes tuple and list; flwr since 1.16 one of them."""
    other = {list: (1,), tuple: [1]}[lib.shape]
    return kind_of(lambda: lib.Array("f4", other, "", b""))


@alike()
def test_shape_compares(lib: Names) -> Any:
    return lib.array_from_numpy(np.ones((2, 3))).shape == lib.shape((2, 3))


@alike()
def test_bytes_of_ndarrays(lib: Names) -> Any:
    arrays = plain_arrays(lib).values()
    return [(array.dtype, list(array.shape), array.stype, array.data) for array in arrays]


@alike()
def test_numpy_of_arrays(lib: Names) -> Any:
    arrays = [array.numpy() for array in plain_arrays(lib).values()]
    return [(str(a.dtype), a.shape, a.tobytes(), a.flags.writeable, a.flags.f_contiguous) for a in arrays]


@alike()
def test_numpy_of_another_stype(lib: Names) -> Any:
    text = text_of(lambda: make_array(lib, "float32", (1,), "my.own", b"1234").numpy())
    return text.partition(":")[0], "'my.own'" in text


@alike()
def test_numpy_of_no_npy(lib: Names) -> Any:
    broken = (b"", b"no npy at all", b"\x93NUMPY\1\0\x10\0{'descr': '<f4'", b"\x80\4.")
    return [
        kind_of(lambda data=data: make_array(lib, "f4", (1,), "numpy.ndarray", data).numpy())
        for data in broken
    ]


@alike(differs=lambda lib: lib.shape is list)
def test_representation_of_an_array(lib: Names) -> Any:
    """Short data is spelled alike; where flwr kept a list, shape is not."""
    return repr(make_array(lib, "float32", (1,), "my.own", b"1234"))


@alike(differs=True)
def test_representation_of_long_data(lib: Names) -> Any:
    return len(repr(lib.array_from_numpy(np.ones(1000)))) > 500


@alike()
def test_tensors(lib: Names) -> Any:
    if has_old_names(lib):
        pytest.skip("ParametersRecord takes no tensors")
    torch = pytest.importorskip("torch")
    state = {
        "w": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        "n": torch.tensor(3),
        "b": torch.tensor([True]),
    }
    state["g"] = torch.ones(2, requires_grad=True)
    record = lib.Arrays(dict(state))
    taken = dict(state)
    lib.Arrays(taken, keep_input=False)
    back = record.to_torch_state_dict(keep_input=False)
    return (
        [(key, a.dtype, list(a.shape), a.stype) for key, a in lib.Arrays(dict(state)).items()],
        [a.numpy().tolist() for a in lib.Arrays(dict(state)).values()],
        list(taken),
        list(record),
        type(back).__name__,
        [(key, str(t.dtype), t.tolist()) for key, t in back.items()],
        kind_of(lambda: lib.Arrays({"a": torch.ones(1), "b": 1})),
        kind_of(lambda: lib.Arrays(torch_state_dict={"a": 1})),
        kind_of(lambda: lib.Array(torch_tensor=[1])),
    )


@alike()
def test_bytes_of_tensors(lib: Names) -> Any:
    if has_old_names(lib):
        pytest.skip("ParametersRecord takes no tensors")
    torch = pytest.importorskip("torch")
    made = [
        torch.ones(2, 3),
        torch.tensor(1),
        torch.arange(6).reshape(2, 3).T,
        torch.zeros(0),
        torch.ones(6)[::2],
    ]
    return [(a.dtype, list(a.shape), a.data) for a in map(lib.Array, made)]


@alike(differs=has_today_names)
def test_bfloat16_tensor(lib: Names) -> Any:
    """flwr fails; ours has ml_dtypes."""
    if has_old_names(lib):
        pytest.skip("ParametersRecord takes no tensors")
    torch = pytest.importorskip("torch")
    return kind_of(lambda: lib.Array(torch.ones(2, dtype=torch.bfloat16)))
