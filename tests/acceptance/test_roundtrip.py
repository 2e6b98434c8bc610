"""What goes in comes out: every sort of array and value, by every way to read."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import archive
from archive.dtypes import dtype_name
from archive.types import Access
from tests.acceptance.samples import ARRAYS, CREATED, NDArray, same
from tests.handout import measure

PLAIN = sorted(ARRAYS)
MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("all") / "all.h5"
    archive.save(ARRAYS, path, created=CREATED)
    return path


def npy(array: NDArray) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_read_lazily(saved: Path, name: str, access: Access) -> None:
    expected = ARRAYS[name]
    with archive.open(saved, access=access) as handle:
        array = handle[name]
        assert array.dtype == dtype_name(expected.dtype)
        assert array.shape == expected.shape
        assert array.nbytes == expected.nbytes
        view = array.numpy()
        assert same(view, expected)
        assert not view.flags.writeable
        private = array.numpy(copy=True)
        assert private.flags.writeable
        assert same(private, expected)
        assert same(np.asarray(array), expected)
        assert same(array[...], expected)


@pytest.mark.parametrize("name", PLAIN)
def test_data_is_what_numpy_saves(saved: Path, name: str) -> None:
    # numpy spells this one f1, which np.load cannot read
    expected = npy(ARRAYS[name]).replace(b"'<f1'", b"'<V1'")
    if name == "structured":  # the name of a member is in ASCII, which takes the place of three spaces
        expected = expected.replace("b\u00e9".encode("latin1"), b"b\\xe9").replace(b"   \n", b"\n")
    with archive.open(saved) as handle:
        assert handle[name].data == expected
        assert handle[name].payload.data_nbytes == len(expected)
    assert archive.load(saved, keys=[name]).parameters_records["model"][name].data == expected


@pytest.mark.parametrize("name", PLAIN)
def test_loaded_and_copy_on_write(saved: Path, name: str) -> None:
    loaded = archive.load(saved).parameters_records["model"][name]
    assert same(loaded.numpy(), ARRAYS[name])
    assert loaded.numpy().flags.writeable
    with archive.open(saved, mode="c") as handle:
        assert same(handle[name].numpy(), ARRAYS[name])
        assert handle[name].numpy().flags.writeable


def test_everything_verifies_and_saves_again_byte_for_byte(saved: Path, tmp_path: Path) -> None:
    assert archive.verify(saved).ok
    with archive.open(saved) as handle:
        archive.save(handle.records, tmp_path / "again.h5", created=CREATED)
    assert (tmp_path / "again.h5").read_bytes() == saved.read_bytes()
    archive.save(archive.load(saved), tmp_path / "loaded.h5", created=CREATED)
    assert (tmp_path / "loaded.h5").read_bytes() == saved.read_bytes()


DTYPES = hnp.scalar_dtypes() | hnp.array_dtypes(subtype_strategy=hnp.scalar_dtypes(), max_size=3)


@MANY
@given(
    array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    fortran=st.booleans(),
    reverse=st.booleans(),
)
def test_any_array(tmp_path: Path, array: NDArray, fortran: bool, reverse: bool) -> None:
    if fortran:
        array = np.asfortranarray(array) if array.ndim else array
    if reverse and array.ndim:
        array = array[::-1]
    path = tmp_path / "any.h5"
    archive.save({"x": array}, path, durable=False)
    with archive.open(path) as handle:
        assert same(handle["x"].numpy(), array)
        if array.dtype.names is None:
            assert handle["x"].data == npy(array)
    assert same(archive.load(path).array_records["model"]["x"].numpy(), array)


NAMES = st.text(max_size=6) | st.text(alphabet="%/.\0\ud800\u00e9 ", max_size=3)


@MANY
@given(record=NAMES, keys=st.lists(NAMES, unique=True, max_size=4))
@example(record="", keys=["", ".", "..", "/", "a/b", "a%2Fb", "\0"])
def test_any_names(tmp_path: Path, record: str, keys: list[str]) -> None:
    path = tmp_path / "names.h5"
    path.unlink(missing_ok=True)
    arrays = {key: np.array(number) for number, key in enumerate(keys)}
    if any("\ud800" <= letter <= "\udfff" for letter in record + "".join(keys)):
        with pytest.raises(archive.errors.ValueRangeError, match="surrogate"):
            archive.save(arrays, path, name=record, durable=False)
        assert not list(tmp_path.iterdir())
        return
    archive.save(arrays, path, name=record, durable=False)
    with archive.open(path) as handle:
        assert list(handle) == [(record, key) for key in keys]
        for number, key in enumerate(keys):
            assert handle[record, key].numpy() == number
            assert handle[key].numpy() == number
        assert list(handle.records.parameters_records) == [record]


DOUBLES = st.binary(min_size=8, max_size=8).map(lambda bits: struct.unpack("<d", bits)[0])
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
NUMBERS: list[st.SearchStrategy[Any]] = [
    DOUBLES,
    INTS | st.sampled_from([2**53, 2**53 + 1, 2**63, 2**64 - 1]),
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
METRIC = st.one_of(*NUMBERS, st.lists(DOUBLES, max_size=4), st.lists(INTS, max_size=4))
CONFIG = st.one_of(
    METRIC,
    st.booleans(),
    TEXT,
    st.binary(max_size=20),
    st.lists(TEXT, max_size=3),
    st.lists(st.binary(max_size=9), max_size=3),
    st.lists(st.booleans(), max_size=3),
)
LONG: list[Any] = [
    [float(n) for n in range(8000)],
    list(range(8000)),
    [2**64 - 1] * 8000,
    [True, False] * 30_001,
    ["a", "", "\0", "\u4e2d"] * 5000,
    [b"", b"\0", b"ab"] * 9000,
    [1, True] * 4000,
    "x" * 60_001,
    "\0" * 60_001,
    "\u00e9" * 40_000,
    b"\0" * 60_001,
    bytes(range(256)) * 300,
]


def exact(value: Any) -> Any:
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


def require_same_values(path: Path, metrics: dict[str, Any], configs: dict[str, Any]) -> None:
    with archive.open(path) as handle:
        kept, loaded = handle.records, archive.load(path)
    for records in (kept, loaded):
        assert isinstance(records, archive.RecordSet)
        found: list[Mapping[str, Any]] = [records.metrics_records["m"], records.configs_records["c"]]
        for values, expected in zip(found, (metrics, configs), strict=True):
            assert list(values) == list(expected)
            assert exact(list(values.values())) == exact(list(expected.values()))


@MANY
@given(
    metrics=st.dictionaries(TEXT, METRIC, max_size=4),
    configs=st.dictionaries(TEXT, CONFIG, max_size=4),
)
@example(metrics={"a": math.nan, "b": -0.0, "": [], "c/d": [1, True]}, configs={"": "", ".": b"", "n": "\0"})
def test_any_values(tmp_path: Path, metrics: dict[str, Any], configs: dict[str, Any]) -> None:
    path = tmp_path / "values.h5"
    archive.save({}, path, metrics={"m": metrics}, configs={"c": configs}, durable=False)
    require_same_values(path, metrics, configs)


@pytest.mark.parametrize("number", range(len(LONG)))
def test_values_too_long_for_an_attribute(tmp_path: Path, number: int) -> None:
    path = tmp_path / "long.h5"
    configs = {"before": 1, "long": LONG[number], "after": "x"}
    archive.save({"long": np.ones(2)}, path, metrics={"m": {}}, configs={"c": configs}, durable=False)
    require_same_values(path, {}, configs)
    with archive.open(path) as handle:
        assert len(handle) == 1, "a value that is a dataset is no array"
        assert handle["long"].shape == (2,)
        assert list(handle) == [("model", "long")]
    assert archive.verify(path).ok


@pytest.mark.slow
def test_50_000_values_in_a_record(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    configs = {f"key {number}": number for number in range(50_000)} | {"last": "x"}
    archive.save({}, path, metrics={"m": {}}, configs={"c": configs}, durable=False)
    require_same_values(path, {}, configs)


def test_foreign_stypes_keep_their_bytes(tmp_path: Path) -> None:
    elements = np.arange(2, dtype="f4")
    good = npy(elements)
    arrays = {
        "raw": archive.Array("", (), "", b""),
        "tobytes": archive.Array(
            "float32", (2,), "numpy.ndarray.tobytes", np.arange(2, dtype="f4").tobytes()
        ),
        "odd shape": archive.Array("float32", (1 << 40,), "x", b"abc"),
        "no npy": archive.Array("float32", (2,), "numpy.ndarray", b"12345678"),
        "other npy": archive.Array("float64", (2,), "numpy.ndarray", good),
        "npy and more": archive.Array("float32", (2,), "numpy.ndarray", good + b"more"),
        "odd header": archive.Array("float32", (2,), "numpy.ndarray", good.replace(b"(2,), }", b"(2,)}  ")),
        "pickle": archive.Array("object", (1,), "numpy.ndarray", good[:10] + b"cos\nsystem\n(S'true'\ntR."),
        "zip": archive.Array("float32", (2,), "numpy.ndarray", b"PK\3\4" + bytes(40)),
    }
    path = tmp_path / "foreign.h5"
    archive.save(arrays, path)
    loaded = archive.load(path).parameters_records["model"]
    with archive.open(path) as handle:
        for key, array in arrays.items():
            for again in (handle[key], loaded[key]):
                assert (again.dtype, again.shape, again.stype, again.data) == (
                    *(array.dtype, array.shape, array.stype, array.data),
                )
                assert outcome(again) == outcome(array), key


def outcome(array: archive.Array) -> Any:
    """Return elements as a list, or the type of the error."""
    try:
        return array.numpy().tolist()
    except Exception as error:  # noqa: BLE001 - the type is what is compared
        return type(error)


@pytest.mark.parametrize("form", ["data", "text", "columns", "header"])
def test_tied_arrays_are_loaded_once(tmp_path: Path, form: str) -> None:
    elements = np.zeros((256, 1024), "<f4")
    header = b"{'shape': (256, 1024), 'descr': '<f4', 'fortran_order': False}\n"
    npy = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + elements.tobytes()
    array = {
        "data": archive.Array("float32", (256, 1024), "raw", elements.tobytes()),
        "text": archive.Array(np.full(1 << 18, "a")),
        "columns": archive.Array(np.asfortranarray(elements)),
        "header": archive.Array("float32", (256, 1024), "numpy.ndarray", npy),
    }[form]
    path = tmp_path / "a.h5"
    archive.save({str(number): array for number in range(50)}, path)
    outcome = measure(lambda: archive.load(path))
    assert outcome.error is None
    assert outcome.peak_bytes < 8 << 20, "50 arrays of 1 MiB that are one"
    for found in archive.load(path).array_records["model"].values():
        assert found.data == array.data
