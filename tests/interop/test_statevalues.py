"""Values of a program's state as JSON and arrays, and back."""

import enum
import json
import random
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import TZPATH, ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pytest

from archive.dtypes import parse_dtype
from archive.errors import HostileFileError, UnsupportedDtypeError, ValueRangeError
from archive.interop.statearrays import Arrays, NotStateError
from archive.interop.statevalues import decode, encode
from archive.records import Array
from tests.optional import torch


class Point(NamedTuple):
    x: Any
    y: Any = None


Pair = namedtuple("Pair", "left right")


class Plain(enum.Enum):
    RED = 1
    GREEN = (1, "b")
    ROUGE = 1  # noqa: PIE796 another name of RED


class Number(enum.IntEnum):
    ONE = 1


class Text(str, enum.Enum):
    A = "a"


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE
    RUN = enum.auto()


class Masks(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Inner(enum.Enum):
        C = 3


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
        Path("runs/a b"),
        Path(),
        PurePosixPath("/ü/../x\udcff"),
        PureWindowsPath(r"C:\runs\a"),
        {Path("a"): [Path("/")]},
        date(2024, 2, 29),
        datetime(1, 1, 1),
        datetime(2024, 10, 27, 2, 30, 0, 5, fold=1),
        datetime(2024, 1, 2, 3, 4, 5, 678900, tzinfo=timezone.utc),
        datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-5, microseconds=1), "here")),
        time(23, 59, 59, 999999, fold=1),
        time(1, tzinfo=timezone(timedelta(minutes=90))),
        timezone(timedelta(0), "UTC"),
        timedelta(days=-1, microseconds=7),
        timedelta.max,
        uuid.UUID(int=5),
        Decimal("-0.10"),
        Decimal("Infinity"),
        Decimal("1E+999999"),
        Fraction(-(3**100), 7),
        range(10, 2, -3),
        range(2**70),
        slice(None, 5, Fraction(1, 2)),
        slice((1,), "b"),
        Point(1, [Point(2, deque([Path("a")]))]),
        Pair(left=Plain.GREEN, right=(Number.ONE,)),
        [Plain.RED, Plain.ROUGE, Text.A, Rights.READ, Rights.BOTH, Rights.READ | Rights.RUN, Rights(0)],
        {Masks.A | Masks.B: Masks.B, Number.ONE: Masks(0)},
        Outer.Inner.C,
        *(np.dtype(name) for name in ("f4", ">i8", "U5", "M8[ms]")),
        np.dtype([("a", "<i4"), ("b", ">f8", (2,))]),
        parse_dtype("bfloat16"),
    ],
    ids=repr,
)
def test_values(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)  # what they contain is of the same classes too


def test_values_that_are_equal_only_to_themselves() -> None:
    assert through(timezone.utc) is timezone.utc
    assert through(Plain.RED) is Plain.RED
    assert repr(through([Decimal("-NaN12"), Decimal("sNaN")])) == "[Decimal('-NaN12'), Decimal('sNaN')]"
    assert through(time(1, fold=1)).fold == 1


def test_a_named_tuple_of_arrays() -> None:
    arrays = Arrays()
    tree = encode(Point(np.ones(2), {"y": np.zeros(1)}), ("best",), arrays)
    assert list(arrays) == ["best/x", "best/y/y"]
    found = decode(tree, arrays, key="x")
    assert (type(found), found.x.tolist(), found.y["y"].tolist()) == (Point, [1, 1], [0])


def test_a_path_of_another_system_is_a_pure_path() -> None:
    tree = {"$": "path", "flavour": "windows", "pure": False, "text": "C:\\runs"}
    if sys.platform == "win32":
        tree |= {"flavour": "posix", "text": "/runs"}
    found = decode(tree, {}, key="x")
    assert type(found) is (PurePosixPath if sys.platform == "win32" else PureWindowsPath)
    assert str(found) == tree["text"]


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


class Constructed(Point):
    """A named tuple whose constructor must not run, with attributes."""

    def __new__(cls, *args: Any) -> Any:
        raise AssertionError


def local_classes() -> list[Any]:
    """Return values whose classes no module holds."""
    local = enum.Enum("local", "A")
    here = namedtuple("here", "a")
    attributed: Any = tuple.__new__(Constructed, (1, 2))
    attributed.note = "x"
    return [local.A, here(1), attributed]


@pytest.mark.parametrize(
    "value",
    [
        *(object(), print, iter([]), np.array([object()]), type, defaultdict(lambda: 0)),
        *(Path("a\0b"), type("Late", (datetime,), {})(2024, 1, 1), np.dtype("O")),
        *local_classes(),
        Masks(8) if sys.version_info >= (3, 11) else object(),
    ],
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
        {"$": "path", "flavour": "posix", "pure": True, "text": "a\0b"},
        {"$": "path", "flavour": "posix", "pure": 1, "text": "a"},
        {"$": "path", "flavour": "mac", "pure": True, "text": "a"},
        {"$": "path", "flavour": "posix", "pure": True, "text": ["a"]},
        {"$": "date", "text": "2024-02-30"},
        {"$": "date", "text": "20240229"},
        {"$": "datetime", "text": "0000-01-01T00:00:00"},
        {"$": "datetime", "text": "2024-01-01T00:00:00+01:00"},
        {"$": "datetime", "text": "2024-01-01T00:00:00", "fold": 2},
        {"$": "datetime", "text": "2024-01-01T00:00:00", "zone": {"$": "path"}},
        {"$": "time", "text": "25:00:00"},
        {"$": "timezone", "microseconds": 10**12},
        {"$": "timezone", "microseconds": 0.5},
        {"$": "zoneinfo", "key": "../../../etc/passwd"},
        {"$": "zoneinfo", "key": "/etc/passwd"},
        {"$": "zoneinfo", "key": "Europe"},
        {"$": "zoneinfo", "key": "No/Such"},
        {"$": "timedelta", "days": 10**12, "seconds": 0, "microseconds": 0},
        {"$": "uuid", "hex": "12"},
        {"$": "decimal", "text": "1e"},
        {"$": "decimal", "text": " 1_0"},
        {"$": "fraction", "numerator": 1, "denominator": 0},
        {"$": "range", "start": 0, "stop": 2, "step": 0},
        {"$": "range", "start": 0, "stop": "2", "step": 1},
        {"$": "slice", "start": 0},
        {"$": "namedtuple", "module": __name__, "class": "Point", "fields": ["x"], "items": [1]},
        {"$": "namedtuple", "module": __name__, "class": "Point", "fields": ["x", "y"], "items": [1]},
        {"$": "namedtuple", "module": __name__, "class": "Point", "fields": ["y", "x"], "items": [1, 2]},
        {"$": "namedtuple", "module": __name__, "class": "Plain", "fields": ["y", "x"], "items": [1, 2]},
        {"$": "namedtuple", "module": "os", "class": "system", "fields": [], "items": []},
        {"$": "namedtuple", "module": "os", "class": "stat_result", "fields": [], "items": []},
        {"$": "namedtuple", "module": "builtins", "class": "tuple", "fields": [], "items": [1]},
        {"$": "namedtuple", "module": "subprocess", "class": "Popen", "fields": [], "items": ["true"]},
        {"$": "namedtuple", "module": [], "class": "Point", "fields": [], "items": []},
        {"$": "enum", "module": __name__, "class": "Plain", "members": ["BLUE"]},
        {"$": "enum", "module": __name__, "class": "Plain", "members": ["RED", "GREEN"]},
        {"$": "enum", "module": __name__, "class": "Plain", "members": []},
        {"$": "enum", "module": __name__, "class": "Plain", "members": ["__class__"]},
        {"$": "enum", "module": __name__, "class": "Point", "members": ["x"]},
        {"$": "enum", "module": "subprocess", "class": "PIPE", "members": ["x"]},
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


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("antigravity", "Fly"),
        ("antigravity", "fly.Fly"),
        ("os", "NoSuch"),
        ("os.path.join", "x"),
        ("numpy", "nosuch.Point"),
        ("lazy_for_states", "Point"),
    ],
)
def test_classes_of_a_file_import_nothing(module: str, name: str) -> None:
    """Such a class may be honest, from a module that this program does not use: the error names it."""

    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        __getattr__ = __getattribute__

    sys.modules["lazy_for_states"] = Lazy("lazy_for_states")
    before = set(sys.modules)
    try:
        for tree in ({"$": "namedtuple", "fields": [], "items": []}, {"$": "enum", "members": ["A"]}):
            with pytest.raises(ValueRangeError) as caught:
                decode([tree | {"module": module, "class": name}], {}, key="k", path="m.h5")
            assert str(caught.value) == (
                f"m.h5: 'k': no class {module}.{name} among the modules that this program has imported; "
                "import the module of the class first"
            )
        assert set(sys.modules) == before
    finally:
        del sys.modules["lazy_for_states"]


def test_the_constructor_of_a_named_tuple_is_not_called() -> None:
    found = through(tuple.__new__(Constructed, (1, 2)))
    assert (type(found), found) == (Constructed, (1, 2))


def berlin() -> ZoneInfo:
    try:
        return ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        pytest.skip("this system has no table of time zones")


def test_a_time_zone_is_saved_by_its_key() -> None:
    zone = berlin()
    for fold in (0, 1):
        found = through([zone, datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=zone)])
        assert found[0] is found[1].tzinfo is zone
        assert found[1].utcoffset() == timedelta(hours=2 - fold)


def test_a_time_zone_without_a_key_is_not_saved() -> None:
    found = [Path(folder, "Europe/Berlin") for folder in TZPATH if Path(folder, "Europe/Berlin").exists()]
    if not found:
        pytest.skip("this system has no files of time zones")
    with found[0].open("rb") as file:
        zone = ZoneInfo.from_file(file)
    for value in (zone, datetime(2024, 1, 1, tzinfo=zone)):
        with pytest.raises(NotStateError, match="without a key"):
            through(value)


@pytest.mark.parametrize("name", ["no such", "O", "float8_new"])
def test_an_unknown_element_type_is_named_with_its_place(name: str) -> None:
    for tree in ({"$": "numpy_dtype", "name": name}, {"$": "scalar", "dtype": name, "hex": ""}):
        with pytest.raises(UnsupportedDtypeError) as caught:
            decode([tree], {}, key="k", path="m.h5")
        assert (caught.value.path, caught.value.key) == ("m.h5", "k")
