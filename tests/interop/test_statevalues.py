"""Values of a program's state as JSON and arrays, and back."""

import json
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from archive.dtypes import parse_dtype
from archive.errors import HostileFileError
from archive.interop.statearrays import Arrays, NotStateError
from archive.interop.statevalues import decode, encode
from archive.records import Array
from tests.optional import torch


def through(value: Any) -> Any:
    arrays = Arrays()
    tree = json.loads(json.dumps(encode(value, ("x",), arrays), allow_nan=False))
    assert all(name.startswith("x") for name in arrays)
    return decode(tree, arrays, key="x")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**80,
        0.1 + 0.2,
        float("inf"),
        "ünï\0",
        complex(0.1, -0.0),
        b"",
        b"\xff" * 10,
        b"\xff" * 10_000,
        [],
        [1, [2.5, None]],
        (1, ("a", b"b")),
        {1, 2},
        {"a": 1, 2: "b", (3, 4): [5]},
        {},
        deque([1, 2], maxlen=3),
        frozenset({1, 2}),
        {frozenset({1}): 0.5},
        bytearray(b"ab"),
        OrderedDict(b=1, a=2),
        Counter("aab"),
        {"x": defaultdict(list, {"a": [1]})},
        defaultdict(None, {"a": 1}),
    ],
    ids=repr,
)
def test_values(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)  # what they contain is of the same classes too


def test_not_a_number() -> None:
    assert repr(through([float("nan"), -0.0])) == "[nan, -0.0]"


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", ">f8", "c16", "U5", "S3", "M8[s]"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    found = through({"a": array, "b": array})["b"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, shape, array.tobytes())
    assert found.flags.writeable


def test_what_contains_itself_is_not_saved() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotStateError, match="nested more than 100 deep"):
        through(value)


def test_order_of_memory_and_scalars() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for given in (array.transpose(1, 2, 0), array.transpose(0, 2, 1), array[:, ::2]):
        found = through(given)
        assert np.array_equal(found, given)
        assert found.strides == given.copy(order="K").strides
        tensor = through(torch().from_numpy(given))
        assert torch().equal(tensor, torch().from_numpy(given))
        assert tensor.stride() == tuple(stride // 8 for stride in found.strides)
    assert through(np.asfortranarray(np.ones((2, 3)))).flags.f_contiguous
    for scalar in (np.float32(0.1), np.float64("nan"), np.int8(-3), np.bool_(True), np.str_("ü")):
        found = through(scalar)
        assert type(found) is type(scalar)
        assert found.tobytes() == scalar.tobytes()


def test_paths_that_meet() -> None:
    value = {"a": {"b": np.zeros(1)}, "a/b": np.ones(1)}
    found = through(value)
    assert (found["a"]["b"][0], found["a/b"][0]) == (0, 1)


def test_generators_go_on() -> None:
    makers: list[Callable[[], Any]] = [
        lambda: np.random.default_rng(1),
        lambda: np.random.Generator(np.random.MT19937(1)),
        lambda: np.random.Generator(np.random.Philox(1)),
        lambda: np.random.Generator(np.random.SFC64(1)),
        lambda: np.random.RandomState(1),
    ]
    for make in makers:
        generator = make()
        generator.normal(size=3)
        clone = through(generator)
        assert clone.normal(size=5).tolist() == generator.normal(size=5).tolist()
    python = random.Random(1)
    python.gauss(0, 1)
    clone = through(python)
    assert [clone.gauss(0, 1) for _ in range(3)] == [python.gauss(0, 1) for _ in range(3)]
    ours = torch().Generator().manual_seed(3)
    again = through(ours)
    assert torch().equal(torch().rand(3, generator=again), torch().rand(3, generator=ours))


def test_tensors() -> None:
    tensor = torch().arange(4, dtype=torch().bfloat16)
    found = through({"w": tensor, "b": torch().ones(2, requires_grad=True)})
    assert torch().equal(found["w"], tensor)
    assert found["b"].requires_grad


@pytest.mark.parametrize(
    "value",
    [
        *(object(), print, iter([]), np.array([object()]), type, defaultdict(lambda: 0)),
    ],
    ids=["object", "function", "iterator", "objects", "class", "factory"],
)
def test_what_no_file_holds(value: Any) -> None:
    with pytest.raises(NotStateError) as caught:
        through({"a": value})
    assert caught.value.key == "x/a"


def test_no_file_holds_a_tensor_of_no_elements_for_numpy() -> None:
    for tensor, remedy in (
        (torch().eye(2).to_mkldnn(), "save to_dense(), or its values and indices"),
        (torch().empty(2, device="meta"), "it has no elements on the device meta"),
    ):
        with pytest.raises(NotStateError) as caught:
            through({"a": tensor})
        assert caught.value.key == "x/a"
        assert str(caught.value.remedy).startswith(remedy)


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "no such"},
        {"a": 1},
        {"$": "ndarray", "at": "gone"},
        {"$": "tuple"},
        {"$": "tensor", "at": "w", "axes": [0, 7], "requires_grad": False},
        {"$": "ndarray", "at": "w", "axes": [0, 0]},
        {"$": "dtype", "name": "nn"},
        {"$": "defaultdict", "factory": "eval", "items": []},
        {"$": "tensor", "at": "n", "requires_grad": True},
        {"$": "torch_generator", "device": "nowhere", "state": 0},
        {"$": "random", "version": 3, "words": {"$": "ndarray", "at": "n"}, "gauss": None},
        {"$": "scalar", "dtype": "f4", "hex": ""},
        {"$": "generator", "state": {"$": "dict", "items": [["bit_generator", "eval"]]}},
        {"$": "deque", "items": [], "maxlen": -1},
        [[{"$": []}]],
    ],
    ids=str,
)
def test_malformed_trees(tree: Any) -> None:
    if isinstance(tree, dict) and tree.get("$") in ("tensor", "dtype", "torch_generator"):
        torch()  # these are decoded through torch
    arrays = {"w": Array(np.zeros((2, 3))), "n": Array(np.zeros(2, "i4"))}
    with pytest.raises(HostileFileError, match=r"^m\.h5: 'm_t': invalid saved state") as caught:
        decode(tree, arrays, key="m_t", path="m.h5")
    assert (caught.value.path, caught.value.key) == ("m.h5", "m_t")


SCALARS = [
    np.str_(""),
    np.str_("a\0"),
    np.str_("\ud800"),
    np.bytes_(b""),
    np.bytes_(b"a\0"),
    np.void(b"a\0"),
    np.array((1, 2.5), [("a", "<i4"), ("b", ">f8")])[()],
    np.datetime64(5, "ns"),
    np.timedelta64(3, "D"),
    np.longdouble(1) / 3,
    np.bool_(True),
    np.complex64(1j),
    parse_dtype("bfloat16").type(1.5),
    parse_dtype("float8_e4m3fn").type(1.5),
]


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{type(value).__name__} {value!r}")
def test_scalars_keep_type_fields_and_nuls(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found == value
    assert found.tobytes() == value.tobytes()


def test_an_int_that_no_json_holds_is_refused() -> None:
    assert through({-(10**4000): 10**4000}) == {-(10**4000): 10**4000}
    for value in (10**5000, [1, -(10**5000)], {10**5000: np.zeros(1)}):
        with pytest.raises(NotStateError, match="an int of 16610 bits"):
            encode(value, ("x",), Arrays())


@pytest.mark.parametrize("position", [-1, 625, 2**31 - 1])
@pytest.mark.parametrize("name", ["generator", "random_state"])
def test_a_generator_reads_no_memory_outside_of_its_words(name: str, position: int) -> None:
    arrays = Arrays()
    made = np.random.RandomState(1)
    tree = encode(made if name == "random_state" else np.random.Generator(np.random.MT19937(1)), (), arrays)
    assert tree["$"] == name
    inner = dict(tree["state"]["items"])["state"]
    inner["items"] = [[key, position if key == "pos" else part] for key, part in inner["items"]]
    with pytest.raises(HostileFileError, match="invalid pos"):
        decode(tree, arrays, key="x")


def test_a_buffer_of_random_numbers_is_read_within() -> None:
    arrays = Arrays()
    tree = encode(np.random.Generator(np.random.Philox(1)), (), arrays)
    items = tree["state"]["items"]
    for position in (-3, 5):
        tree["state"]["items"] = [[k, position if k == "buffer_pos" else part] for k, part in items]
        with pytest.raises(HostileFileError, match="invalid buffer_pos"):
            decode(tree, arrays, key="x")


def test_a_random_state_of_other_bits_is_refused() -> None:
    with pytest.raises(NotStateError, match="another bit generator"):
        encode(np.random.RandomState(np.random.PCG64(1)), (), Arrays())
