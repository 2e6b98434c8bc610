"""Opening HDF5 files that are no archives, end to end: what comes out, and what is refused."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import h5py
import ml_dtypes
import numpy as np
import pytest

import archive
from archive.engine.foreign.dataset import array_spec, parse_stored
from archive.errors import (
    ArchiveError,
    ClosedError,
    DamagedError,
    DigestError,
    HostileFileError,
    MissingError,
    NotAnArchiveError,
    StorageError,
)
from archive.format.constants import MODE_ELEMENTS, MODE_TEXT
from archive.format.elements import NUMPY_MAX_RANK, pack_text, text_width
from tests.descriptors import open_files
from tests.hdf5.hostile import HOSTILE, SECRET, Craft, make

Records = Any
pytestmark = pytest.mark.filterwarnings("ignore:ParametersRecord is the old name")


def random_bytes(dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(dtype)
    noise = np.random.default_rng(7).bytes(int(np.prod(shape, dtype=int)) * dtype.itemsize)
    return np.frombuffer(noise, dtype).reshape(shape)


def every_array() -> dict[str, Any]:
    """Return one array of every way in which an archive stores one."""
    numbers = [f"{order}{kind}" for order in "<>" for kind in ("i2", "u4", "i8", "f2", "f4", "f8", "c8")]
    numbers += ["i1", "u1", "<c16", "g", "G", "V3", "V16"]
    arrays: dict[str, Any] = {name: random_bytes(name, (3, 2)) for name in numbers}
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"):
        if not hasattr(ml_dtypes, name):
            continue
        arrays[name] = random_bytes("u1", (4, 2 * (1 + (name == "bfloat16")))).view(getattr(ml_dtypes, name))
    structured = np.zeros(
        3, np.dtype([("a", "<i4"), ("b", ">f8", (2,)), ("c", "S3"), ("d", "?")], align=True)
    )
    structured["a"], structured["c"] = [1, 2, 3], b"xy"
    arrays |= {
        "bool": np.array([[True, False], [False, True]]),
        "S": np.array([b"abc", b"", b"a\0b"]),
        "U": np.array([["é", ""], ["日本語", "😀"]]),
        "U big": np.array(["ab", "c"], ">U2"),
        "U with nul": np.array(["a\0b", "c"]),
        "U surrogate": np.array(["\ud800x", "c"]),
        "U empty": np.empty((0, 2), "U3"),
        "U empty big": np.empty((2, 0), ">U3"),
        "U of width 0": np.ndarray((0, 3), "U0"),
        "U of nothing": np.array(["", ""], "U5"),
        "datetime": np.array(["2026-01-01", "NaT"], "M8[s]"),
        "timedelta": np.array([1, -1], ">m8[ms]"),
        "structured": structured,
        "structured text": np.array([("é", 1)], [("t", "U3"), ("n", "i2")]),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "fortran text": np.asfortranarray(np.array([["a", "bb"], ["é", ""]])),
        "scalar": np.array(3.5, "f4"),
        "scalar text": np.array("日本"),
        "empty": np.empty((0, 5), "f8"),
        "zero width": np.empty((2, 2), "V0"),
        "rank 32": random_bytes("f4", (1,) * 31 + (3,)),
        "large": random_bytes("f4", (300, 1000)),
        "a/b": np.arange(3),
        "": np.arange(4),
        ".": np.arange(5),
        "50%": np.arange(6),
        "opaque": archive.Array("float32", (2, 2), "torch", b"pickled? no, just bytes"),
        "opaque exact": archive.Array("float32", (2, 2), "raw", np.arange(4, dtype="f4").tobytes()),
        "opaque, no dtype": archive.Array("something", (2,), "numpy.ndarray", b"\x93NUMPY nonsense"),
        "opaque empty": archive.Array("", (), "raw", b""),
        "texts with nul": archive.Array("a\0dtype", (3,), "my\0stype", b"abc"),
        "a\0key": np.arange(7),
        "\0": np.arange(8),
        "odd header": archive.Array("float64", (2,), "numpy.ndarray", odd_npy(np.arange(2.0))),
    }
    if NUMPY_MAX_RANK > 32:
        arrays["rank 33 empty"] = np.empty((1,) * 32 + (0,), "U3")
        arrays["rank 33"] = random_bytes("f4", (1,) * 33 + (3,))
        arrays["rank 33 points"] = np.array(["a\0b", "c"]).reshape((1,) * 33 + (2,))
    return arrays


def odd_npy(array: np.ndarray[Any, Any]) -> bytes:
    """Return a .npy as another writer may pad it."""
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()


VALUES: dict[str, Any] = {
    "true": True,
    "ints": [1, -2, 3],
    "large": 2**64 - 1,
    "larges": [2**63, 1],
    "negative": -(2**63),
    "float": 0.1,
    "inf": [float("inf"), -0.0],
    "str": "é",
    "empty str": "",
    "nul": "a\0b",
    "strs": ["a", "", "日本"],
    "strs with nul": ["a\0", "b"],
    "bytes": b"a\0b\0",
    "empty bytes": b"",
    "bytes like JSON": b'["str","a"]',
    "bytes that begin like JSON": b'["',
    "one of the two": b"[\xff",
    "bytes list": [b"a", b"\0"],
    "list": [],
    "bools": [True, False],
    "one": [7],
    "a/b": "slash",
    "": "no name",
    ".": 1,
    "long str": "x" * 100_000,
    "long nul": "x\0" * 100_000,
    "long ints": list(range(20_000)),
    "long floats": [0.5] * 20_000,
    "long bools": [True, False] * 20_000,
    "long bytes": b"\0x" * 100_000,
    "long strs": ["é"] * 20_000,
}
METRICS: dict[str, Any] = {
    "loss": 0.5,
    "n": 3,
    "curve": [0.25, 0.5],
    "none": [],
    "long": [1.5] * 20_000,
    "a/b": 1,
}


def save_everything(path: Path) -> Records:
    arrays = archive.ParametersRecord()
    for key, value in every_array().items():
        arrays[key] = value if isinstance(value, archive.Array) else archive.array_from_numpy(value)
    shared = archive.array_from_numpy(np.arange(10.0))
    arrays["tied"], arrays["tied/again"] = shared, shared
    records = archive.RecordSet(
        {"model": arrays, "empty": archive.ParametersRecord(), "a/b": archive.ParametersRecord()},
        {"model": archive.MetricsRecord(METRICS), "none": archive.MetricsRecord()},
        {"model": archive.ConfigsRecord(VALUES), "per/cent%": archive.ConfigsRecord({"x": 1})},
    )
    archive.save(records, path, created="2026-01-01T00:00:00Z")
    return records


def require_equal(found: Records, wanted: Records) -> None:
    assert list(found.parameters_records) == list(wanted.parameters_records)
    for name, record in wanted.parameters_records.items():
        arrays = found.parameters_records[name]
        assert list(arrays) == list(record)
        for key, array in record.items():
            got = arrays[key]
            assert (got.dtype, tuple(got.shape), got.stype) == (
                array.dtype,
                tuple(array.shape),
                array.stype,
            ), key
            assert got.data == array.data, key
    for kind in ("metrics_records", "configs_records"):
        assert getattr(found, kind).keys() == getattr(wanted, kind).keys()
        for name, values in getattr(wanted, kind).items():
            got = dict(getattr(found, kind)[name])
            assert got == dict(values)
            assert {k: type(v) for k, v in got.items()} == {k: type(v) for k, v in values.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    path = tmp_path_factory.mktemp("saved") / "all.h5"
    return path, save_everything(path)


@pytest.fixture
def edited(saved: tuple[Path, Records], tmp_path: Path) -> Path:
    """Return a copy of the archive that is there to be changed."""
    return Path(shutil.copy(saved[0], tmp_path / "edited.h5"))


def test_our_own_archive_as_it_is(saved: tuple[Path, Records]) -> None:
    path, records = saved
    for access in ("mmap", "pread"):
        for mode in ("r", "c"):
            with archive.open(path, foreign=True, access=access, mode=mode) as handle:
                require_equal(handle.records, records)
                assert handle.info.created == "2026-01-01T00:00:00Z"
                assert handle.info.access == "h5py"


@pytest.mark.tools
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), marks=pytest.mark.slow),
        ("-f", "arrays/model/large,arrays/model/U,arrays/model/bfloat16,arrays/model/a%2Fb:GZIP=1"),
        pytest.param(("-l", "COMPA"), marks=pytest.mark.slow),
        ("-f", "SHUF", "-f", "GZIP=4", "-m", "1"),
    ],
)
def test_our_own_archive_after_h5repack(
    saved: tuple[Path, Records], tmp_path: Path, options: tuple[str, ...]
) -> None:
    if "COMPA" in options:
        records = archive.RecordSet({"model": archive.ParametersRecord()})
        records.parameters_records["model"]["w"] = archive.array_from_numpy(np.arange(6.0))
        path = tmp_path / "small.h5"
        archive.save(records, path)
    else:
        path, records = saved
    repacked = tmp_path / "repacked.h5"
    if shutil.which("h5repack") is None:
        pytest.skip("h5repack is not installed")
    done = subprocess.run(
        ["h5repack", *options, path, repacked], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == -signal.SIGABRT and "H5O_LAYOUT_NDIMS" in done.stderr:
        pytest.skip("h5repack of HDF5 2.2 aborts where it puts an array of 32 dimensions into chunks")
    assert done.returncode == 0, done.stderr
    with pytest.raises(NotAnArchiveError, match="foreign=True"):
        archive.open(repacked)
    with archive.open(repacked, foreign=True) as handle:
        require_equal(handle.records, records)
    archive.reindex(repacked, tmp_path / "again.h5")
    require_equal(archive.load(tmp_path / "again.h5"), records)


def copy_by_h5py(path: Path, to: Path) -> None:
    with h5py.File(path) as old, h5py.File(to, "w") as new:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value


def rewriters() -> list[Any]:
    """Return h5repack, others by path in FEDARCHIVE_H5REPACK, and h5py."""
    named = os.environ.get("FEDARCHIVE_H5REPACK", "").split(os.pathsep)
    found = [shutil.which("h5repack"), *named]
    tools = [partial(run_h5repack, tool) for tool in found if tool]
    return [pytest.param(copy_by_h5py, id="h5py"), *(pytest.param(tool, id=tool.args[0]) for tool in tools)]


def run_h5repack(tool: str, path: Path, to: Path) -> None:
    subprocess.run([tool, path, to], check=True, capture_output=True)


def small_archive(path: Path, number: int) -> dict[str, np.ndarray[Any, Any]]:
    """Save a few small arrays, whose sizes and names differ with the number."""
    random = np.random.default_rng(number)
    lengths = random.integers(0, 2000, random.integers(0, 5)).tolist()
    arrays = {f"{'layer' * (number % 3)}{at}": random_bytes("f4", (size,)) for at, size in enumerate(lengths)}
    archive.save(arrays, path, configs={"n": number, "text": "x" * (number % 50)}, durable=False)
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize("rewrite", rewriters())
def test_small_archives_that_a_tool_rewrote(tmp_path: Path, rewrite: Callable[[Path, Path], None]) -> None:
    """By chance the footer of many ends the file again, which is not truncated for that."""
    at_the_end, errors = 0, dict[str, int]()
    for number in range(200):
        path, rewritten = tmp_path / f"{number}.h5", tmp_path / f"{number}-again.h5"
        arrays = small_archive(path, number)
        rewrite(path, rewritten)
        at_the_end += rewritten.read_bytes().endswith(path.read_bytes()[-256:])
        with pytest.raises(ArchiveError) as caught:
            archive.open(rewritten)
        kind = type(caught.value).__name__
        errors[kind] = errors.get(kind, 0) + 1
        assert "foreign=True" in str(caught.value)
        assert "reindex" in str(caught.value)
        with archive.open(rewritten, foreign=True) as handle:
            assert handle.records.configs_records["configs"]["n"] == number
            assert {key for _, key in handle} == arrays.keys()
            for key, array in arrays.items():
                assert handle[key].data == archive.Array(array).data
    assert errors == {"NotAnArchiveError": 200}, at_the_end


def test_an_archive_that_a_tool_rewrote_and_its_footer_ends(tmp_path: Path) -> None:
    vector = Path(__file__).parents[3] / "spec/v1/vectors/invalid/rewritten-0.h5"
    with fsspec.open("memory://rewritten.h5", "wb") as file:
        file.write(vector.read_bytes())
    for url in (str(vector), "memory://rewritten.h5"):
        with pytest.raises(NotAnArchiveError, match=r"an HDF5 tool rewrote.*foreign=True.*reindex"):
            archive.open(url)


def test_an_array_that_h5py_edited_in_place(tmp_path: Path) -> None:
    """The error names the way to the values: the bytes are what somebody wanted, and no damage."""
    path = tmp_path / "a.h5"
    archive.save({"w": np.arange(6.0), "b": np.zeros(3)}, path)
    with h5py.File(path, "r+") as file:
        file["arrays/model/w"][0] = 5
    with pytest.raises(DigestError, match=r"'model/w': .*if you edited it: .*foreign=True.*reindex"):
        archive.load(path)
    with archive.open(path, foreign=True) as handle:
        assert handle["w"].numpy().tolist() == [5, 1, 2, 3, 4, 5]
    archive.reindex(path, tmp_path / "again.h5")
    with archive.open(tmp_path / "again.h5") as handle:
        assert handle["w"].numpy()[0] == 5


def test_tied_arrays_stay_tied(saved: tuple[Path, Records], tmp_path: Path) -> None:
    with archive.open(saved[0], foreign=True) as handle:
        report = archive.save(handle.records, tmp_path / "again.h5")
    with archive.open(saved[0]) as handle:
        assert report.array_bytes <= handle.info.array_bytes  # values that are datasets are counted too
    with archive.open(tmp_path / "again.h5") as first, archive.open(saved[0]) as second:
        assert first.info.array_bytes == second.info.array_bytes


def test_record_dict(tmp_path: Path) -> None:
    records = archive.RecordDict(
        {
            "m": archive.MetricRecord({"loss": 0.5}),
            "a": archive.ArrayRecord({"w": archive.Array(np.arange(3))}),
        }
    )
    archive.save(records, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5", foreign=True) as handle:
        assert isinstance(handle.records, archive.RecordDict)
        assert set(handle.records) == {"m", "a"}
        assert dict(handle.records.metric_records["m"]) == {"loss": 0.5}


def test_edits_by_h5py(edited: Path, saved: tuple[Path, Records]) -> None:
    with h5py.File(edited, "r+") as file:
        model = file["arrays/model"]
        model["<f4"][0, 0] = 42.0
        del model["<f8"]
        model["new"] = np.arange(5, dtype="i2")
        model.create_dataset("packed", data=np.ones((100, 100)), compression="gzip")
        model["50%25"].attrs["comment"] = "of no meaning to us"
        model.move("a%2Fb", "renamed")
        model["sub/new"] = np.arange(2)
        file["outside/w"] = np.arange(7)
        file["metrics/model"].attrs["loss"] = np.float32(0.25)
        file["metrics/model"].attrs["more"] = 7
        file["metrics/model"].attrs["note"] = "a metric is a number"
        file["configs/model"].attrs["added"] = "text"
        del file["configs/model"].attrs["one"]
        del file["configs/model/long str"]
    with archive.open(edited, foreign=True) as handle:
        model = handle.records.parameters_records["model"]
        assert model["<f4"].numpy()[0, 0] == 42.0
        assert "<f8" not in model
        assert model["new"].numpy().tolist() == [0, 1, 2, 3, 4]
        assert model["new"].dtype == "int16"
        assert model["packed"].numpy().sum() == 10_000
        assert model["renamed"].numpy().tolist() == [0, 1, 2]
        assert model["50%"].numpy().tolist() == list(range(6))
        assert model["sub/new"].numpy().tolist() == [0, 1]
        assert handle.records.parameters_records["outside"]["w"].numpy().tolist() == list(range(7))
        metrics = handle.records.metrics_records["model"]
        assert (metrics["loss"], metrics["more"], "note" in metrics) == (0.25, 7, False)
        configs = handle.records.configs_records["model"]
        assert configs["added"] == "text"
        assert not {"one", "long str"} & configs.keys()
        untouched = saved[1].parameters_records["model"]
        for key in ("bfloat16", "U", "structured", "datetime", "fortran", "opaque", "tied/again"):
            assert model[key].data == untouched[key].data


@pytest.mark.parametrize(
    ("texts", "mode"),
    [(["日本", "a"], "text"), (["😀", "a"], "text"), (["😀", "a\0b"], "elements"), (["a", "b"], "text")],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_text_beyond_the_axes_of_hdf5(texts: list[str], mode: str, order: str) -> None:
    dtype = np.dtype(np.array(texts).dtype.str.replace("<", order))
    array = np.array(texts, dtype)
    stored = pack_text(array, text_width(array) or 0) if mode == "text" else array
    shape = [1] * 33 + [2]
    attributes = {"stype": "numpy.ndarray", "dtype": dtype.str, "shape": shape}
    entry = ["uint8", "elements", 1, [stored.nbytes], False, 0, stored.nbytes, attributes]
    spec = array_spec(parse_stored("f.h5", "/w", entry, 1000, 0), True, lambda _: stored.view("u1"))
    assert spec.type.mode == (MODE_TEXT if mode == "text" else MODE_ELEMENTS)
    assert spec.shape == tuple(shape)


def test_attributes_that_contradict_their_bytes_are_refused(edited: Path) -> None:
    with h5py.File(edited, "r+") as file:
        file["arrays/model/<f4"].attrs["shape"] = [1000, 1000]
    with pytest.raises(HostileFileError, match=r"/arrays/model/<f4.*delete its attributes"):
        archive.open(edited, foreign=True)


def test_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    packed = np.arange(200_000, dtype="f4").reshape(400, 500)
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["epochs"] = 3
        file.attrs["matrix"] = np.eye(2)
        file["w"] = np.arange(6.0).reshape(2, 3)
        file["scalar"] = 2.5
        file["flag"] = True
        file["z"] = np.array([1 + 2j])
        file.create_dataset("empty", (0, 3), "f8")
        file.create_dataset("unwritten", (3,), "i4", fillvalue=7)
        file.create_dataset("nothing", data=h5py.Empty("f4"))
        file["big"] = np.arange(3, dtype=">i4")
        file.create_dataset("color", data=[0, 1], dtype=h5py.enum_dtype({"RED": 0, "BLUE": 1}, "i2"))
        file["fixed"] = np.array([b"ab", b"c"])
        file.create_dataset("utf8", data=["é".encode(), b"b"], dtype=h5py.string_dtype("utf-8", 4))
        file.create_dataset("strings", data=[["a", "日本"], ["", "cc"]], dtype=h5py.string_dtype())
        file.create_dataset("string", data="one")
        file.create_dataset("no strings", (0,), dtype=h5py.string_dtype())
        file["table"] = np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])
        file["type"] = np.dtype("f4")  # a committed datatype holds nothing
        group = file.create_group("enc/layer", track_order=True)
        group.attrs["name"] = "dense"
        group.attrs["units"] = [4, 5]
        group.create_dataset("gzip", data=packed, compression="gzip", shuffle=True, fletcher32=True)
        group.create_dataset("lzf", data=packed, compression="lzf", chunks=(7, 500))
        group.create_dataset("columns", data=packed, compression="gzip", chunks=(400, 1))
        group.create_dataset("scaled", data=packed.astype("i4"), scaleoffset=0)
        group["tied"] = file["w"]
    with archive.open(path, foreign=True) as handle:
        assert handle.info.container == "recordset"
        assert "nothing" in handle.info.verified
        assert list(handle.records.parameters_records) == ["model", "enc/layer"]
        model = handle.records.parameters_records["model"]
        assert list(model)[:4] == ["w", "scalar", "flag", "z"]
        assert "nothing" not in model
        values = {key: array.numpy().tolist() for key, array in model.items()}
        assert values == {
            "w": [[0, 1, 2], [3, 4, 5]],
            "scalar": 2.5,
            "flag": True,
            "z": [1 + 2j],
            "empty": [],
            "unwritten": [7, 7, 7],
            "big": [0, 1, 2],
            "color": [0, 1],
            "fixed": [b"ab", b"c"],
            "utf8": ["é", "b"],
            "strings": [["a", "日本"], ["", "cc"]],
            "string": "one",
            "no strings": [],
            "table": [(1, 2.5)],
        }
        assert (model["flag"].dtype, model["big"].dtype, model["strings"].dtype) == ("bool", ">i4", "<U2")
        layer = handle.records.parameters_records["enc/layer"]
        for key in ("gzip", "lzf", "columns", "scaled"):
            assert np.array_equal(layer[key].numpy(), packed)
        assert dict(handle.records.configs_records["model"]) == {"epochs": 3}
        assert dict(handle.records.configs_records["enc/layer"]) == {"name": "dense", "units": [4, 5]}
        assert handle["enc/layer", "tied"].numpy().tolist() == values["w"]
        again = archive.save(handle.records, tmp_path / "saved.h5")
    with archive.open(tmp_path / "saved.h5") as handle:
        assert np.array_equal(handle["enc/layer", "columns"].numpy(), packed)
        assert np.array_equal(handle["gzip"].numpy(), packed)
        assert again.arrays == 19


def test_keras_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    kernel = np.arange(12, dtype="f4").reshape(3, 4).astype(ml_dtypes.bfloat16)
    with h5py.File(path, "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.create_dataset("0", data=kernel.view("V2")).attrs["dtype"] = "bfloat16"
        variables.create_dataset("1", data=np.ones(4, "f4"))
        file.create_group("optimizer/vars")
        file["_layer_checkpoint_dependencies\\x/vars/0"] = np.arange(2)
    with archive.open(path, foreign=True) as handle:
        record = handle.records.parameters_records["layers/dense/vars"]
        assert record["0"].dtype == "bfloat16"
        assert np.array_equal(record["0"].numpy().astype("f4"), kernel.astype("f4"))
        assert record["1"].numpy().tolist() == [1, 1, 1, 1]
        assert "optimizer/vars" not in handle.records.parameters_records


def test_mapped_in_place_and_writable_copies(tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(100_000.0)
        file.create_dataset("z", data=np.arange(100_000.0), compression="gzip")
    before = path.read_bytes()
    with archive.open(path, foreign=True, mode="c") as handle:
        for key in ("w", "z"):
            handle[key].numpy()[:] = 0
            assert handle[key].numpy()[5] == 5
    with archive.open(path, foreign=True) as handle:
        views = [handle[key].numpy() for key in ("w", "z")]
        assert not any(view.flags.writeable or view.flags.owndata for view in views)
        late = handle["w"]
    assert [view[7] for view in views] == [7, 7]
    with pytest.raises(ClosedError):
        late.numpy()
    assert path.read_bytes() == before


def processor_seconds() -> float:
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


@pytest.mark.parametrize(
    "craft",
    [
        pytest.param(craft, marks=[pytest.mark.slow] * (number % 3 > 0))
        for number, craft in enumerate(HOSTILE)
    ],
    ids=lambda craft: craft.__name__,
)
def test_hostile_files_are_refused_at_once(craft: Craft, tmp_path: Path) -> None:
    path = make(craft, tmp_path)
    before = processor_seconds()
    with pytest.raises(HOSTILE[craft]) as caught:
        archive.open(path, foreign=True)
    # of this process and of the child, so that a busy machine is not its fault
    assert processor_seconds() - before < 1
    assert caught.value.path == str(path)
    assert SECRET.decode() not in f"{caught.value}{caught.value.__dict__}"


def test_no_trace_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("z", data=np.arange(100_000.0), compression="gzip")
    with archive.open(path, foreign=True) as handle:
        assert handle["z"].numpy()[-1] == 99_999
        assert not list(spool.iterdir())
    assert open_files(tmp_path) == []


def test_no_room_for_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["w"] = 1
    with pytest.raises(StorageError, match="TMPDIR"):
        archive.open(path, foreign=True)


def test_a_child_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["w"] = 1
    for action, kind in (
        ("kill -SEGV $$", DamagedError),
        ("kill -XCPU $$", HostileFileError),
        ("kill -KILL $$", HostileFileError),
        ("echo '{'", DamagedError),
        ("echo no >&2; exit 3", DamagedError),
        ("echo '[]'", DamagedError),
        ("echo '{}'", HostileFileError),
    ):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{action}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        with pytest.raises(kind):
            archive.open(path, foreign=True)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        archive.open(tmp_path / "nowhere.h5", foreign=True)


def test_h5py_stays_in_the_child_and_out_of_the_working_folder(tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.arange(3.0), chunks=(2,))
    (tmp_path / "h5py.py").write_text("raise SystemExit('somebody else\\'s h5py')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('somebody else\\'s numpy')")
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import archive\n"
        "with archive.open(sys.argv[1], foreign=True) as handle:\n"
        "    assert handle['w'].numpy().tolist() == [0, 1, 2]\n"
        "assert 'h5py' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(path), str(root)]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-I", "-c", program, str(path), str(root)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_unwritten_dataset_is_no_bomb(tmp_path: Path) -> None:
    """1,400 bytes that declare three billion took 9 s, and 3 GB of the temporary folder."""
    path = tmp_path / "unwritten.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (3_000_000_000,), "u1", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(HostileFileError, match="67,108,864 may be; raise decoded_bytes"):
        archive.open(path, foreign=True)


@pytest.mark.parametrize("allowed", [sys.maxsize, 10**30, np.int64(1 << 40)])
def test_any_number_may_be_decoded(tmp_path: Path, allowed: Any) -> None:
    """A good file was called damaged: the limits of a process are C longs."""
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.ones(1000), compression="gzip")
    with archive.open(path, foreign=True, decoded_bytes=allowed) as handle:
        assert handle["w"].numpy().sum() == 1000


@pytest.mark.parametrize(
    ("allowed", "error"), [("9", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)]
)
def test_invalid_limits_are_no_fault_of_the_file(
    tmp_path: Path, allowed: Any, error: type[Exception]
) -> None:
    path = tmp_path / "any.h5"
    path.write_bytes(b"any")
    with pytest.raises(error, match="decoded_bytes must be"):
        archive.open(path, foreign=True, decoded_bytes=allowed)


def test_more_may_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "zeros.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(9 << 20), compression="gzip")
    with pytest.raises(HostileFileError, match="decoded_bytes"):
        archive.open(path, foreign=True)
    for number in ("72M", 72e6):
        with pytest.raises(TypeError, match="decoded_bytes must be a number of bytes, an int"):
            archive.open(path, foreign=True, decoded_bytes=number)  # type: ignore[arg-type]
    with archive.open(path, foreign=True, decoded_bytes=72 << 20) as handle:
        assert handle["x"].shape == (9 << 20,)
    archive.reindex(path, tmp_path / "again.h5", decoded_bytes=72 << 20)
    assert archive.verify(tmp_path / "again.h5").ok


WITHOUT_STDIO = """
import os, sys
import archive

answer = os.dup2(1, 30)
for fd in map(int, sys.argv[2].split()):
    os.close(fd)
try:
    with archive.open(sys.argv[1], foreign=True) as handle:
        before = len(os.listdir("/proc/self/fd"))
        said = [int(handle[name].numpy().sum()) for name in ("plain", "packed")]
    with archive.open(sys.argv[1], foreign=True):
        said.append(len(os.listdir("/proc/self/fd")) - before)
except BaseException as error:
    said = error
os.write(answer, str(said).encode())
os._exit(0)
"""


@pytest.mark.parametrize("closed", [*(pytest.param(one, marks=pytest.mark.slow) for one in "012"), "0 1 2"])
def test_without_stdin_stdout_or_stderr(tmp_path: Path, closed: str) -> None:
    """The file had the number of the child's stdin: a good file was called damaged."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = np.arange(5)
        file.create_dataset("packed", data=np.arange(5000), chunks=(100,), compression="gzip")
    command = [sys.executable, "-c", WITHOUT_STDIO, str(tmp_path / "a.h5"), closed]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout == "[10, 12497500, 0]", done.stderr
