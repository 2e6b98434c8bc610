"""mean(): against exact fractions, and what it refuses."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import DigestError, ExistsError, MissingError, UnsupportedDtypeError, ValueRangeError
from archive.records import Array, ArrayRecord, RecordSet
from tests.acceptance.samples import CREATED, NDArray, same

WEIGHTS = [None, [1, 1, 1], [3, 5, 8], [0.1, 0.2, 0.7], [120.0, 0, 7.5], [1e-300, 3e-300, 2e-300]]
BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def clients(folder: Path, arrays: list[Any], **options: Any) -> list[Path]:
    """Save one archive for each dict of arrays, or array."""
    paths = [folder / f"client{number}.h5" for number in range(len(arrays))]
    for path, given in zip(paths, arrays, strict=True):
        made = given if isinstance(given, (dict, ArrayRecord, RecordSet)) else {"x": given}
        archive.save(made, path, durable=False, created=CREATED, **options)
    return paths


def mean(folder: Path, arrays: list[Any], weights: Any = None, **options: Any) -> Any:
    archive.mean(clients(folder, arrays), weights, out=folder / "mean.h5", durable=False, **options)
    return archive.load(folder / "mean.h5").array_records["model"]


def exact(values: list[Any], weights: Any) -> Fraction:
    shares = [Fraction(weight) for weight in weights or [1] * len(values)]
    products = [Fraction(value) * share for value, share in zip(values, shares, strict=True)]
    return sum(products, Fraction(0)) / sum(shares, Fraction(0))


def require_near(found: NDArray, inputs: list[NDArray], weights: Any, bits: int) -> None:
    """Require half a unit in the last place of the type, and what float64 sums may be off."""
    flat = [array.astype("f8").reshape(-1).tolist() for array in inputs]
    for position, result in enumerate(found.astype("f8").reshape(-1).tolist()):
        values = [column[position] for column in flat]
        wanted = exact(values, weights)
        size = exact([abs(value) for value in values], weights)
        slack = size * (len(inputs) + 3) * Fraction(1, 1 << 53) + Fraction(1, 1 << 1070)
        rounding = abs(wanted) * Fraction(1, 1 << bits)
        smallest = Fraction(float(np.finfo("f2").smallest_subnormal)) / 2 if bits == 11 else 0
        assert abs(Fraction(result) - wanted) <= slack + max(rounding, smallest)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", BITS)
def test_floats_against_fractions(tmp_path: Path, name: str, weights: Any) -> None:
    rng = np.random.default_rng(7)
    kind = np.dtype(getattr(ml_dtypes, name, name))
    inputs = [
        (rng.normal(size=(4, 30)) * 10.0 ** rng.integers(-3, 3, (4, 30))).astype(kind) for _ in range(3)
    ]
    inputs[0][0, :3] = inputs[1][0, :3] = inputs[2][0, :3] = [0, -0.0, 1]
    found = mean(tmp_path, inputs, weights)["x"]
    assert found.dtype == name
    assert found.shape == (4, 30)
    require_near(found.numpy(), inputs, weights, BITS[name])
    assert found.numpy()[0, :3].astype("f8").tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_ml_dtypes_are_rounded_once(tmp_path: Path, name: str) -> None:
    """ml_dtypes would round to float32 first: a little more than half way to the next became half way."""
    kind = np.dtype(getattr(ml_dtypes, name))
    step = float(ml_dtypes.finfo(kind).eps)
    inputs = [np.array([one, -one, 2.0, np.inf]).astype(kind) for one in (1.0, 1.0 + step)]
    up = mean(tmp_path, inputs, [1.0, 1.0 + 2.0**-30], nan="allow")["x"].numpy().astype("f8").tolist()
    down = mean(tmp_path, inputs, [1.0 + 2.0**-30, 1.0], nan="allow")["x"].numpy().astype("f8").tolist()
    half = mean(tmp_path, inputs, nan="allow")["x"].numpy().astype("f8").tolist()
    last = float(np.array(np.inf).astype(kind))
    np.testing.assert_equal(up, [1.0 + step, -1.0 - step, 2.0, last])
    np.testing.assert_equal(down, [1.0, -1.0, 2.0, last])
    np.testing.assert_equal(half, [1.0, -1.0, 2.0, last])


def test_products_are_not_rounded_to_float32(tmp_path: Path) -> None:
    """``weight * value`` of a float32 array is float32: the mean would lose half its digits."""
    inputs = [np.array([16777216.0], "f4"), np.array([1.0], "f4"), np.array([-16777216.0], "f4")]
    assert mean(tmp_path, inputs, [0.1, 0.3, 0.1])["x"].numpy()[0] == np.float32(0.3 / 0.5)


@pytest.mark.parametrize("kind", ["c8", "c16", ">c16"])
def test_complex_against_fractions(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(8)
    inputs = [(rng.normal(size=20) + 1j * rng.normal(size=20)).astype(kind) for _ in range(3)]
    found = mean(tmp_path, inputs, [1, 2, 4])["x"].numpy()
    assert found.dtype == np.dtype(kind)
    bits = 24 if kind == "c8" else 53
    require_near(found.real, [array.real for array in inputs], [1, 2, 4], bits)
    require_near(found.imag, [array.imag for array in inputs], [1, 2, 4], bits)


@pytest.mark.parametrize("kind", ["i1", "u1", ">i2", "u4", "i8", "u8"])
def test_integers_half_to_even(tmp_path: Path, kind: str) -> None:
    first, second = np.array([0, 1, 2, 3, 100], kind), np.array([1, 2, 3, 4, 120], kind)
    assert mean(tmp_path, [first, second])["x"].numpy().tolist() == [0, 2, 2, 4, 110]
    if np.dtype(kind).kind == "i":
        assert mean(tmp_path, [-first, -second])["x"].numpy().tolist() == [0, -2, -2, -4, -110]
    weighted = mean(tmp_path, [first, second], [1, 2])["x"]
    assert weighted.dtype == str(np.dtype(kind))
    assert weighted.numpy().tolist() == [
        round(exact([a, b], [1, 2])) for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]


def test_the_largest_integers(tmp_path: Path) -> None:
    for kind in ("i8", "u8"):
        limit = 1 << 53
        assert mean(tmp_path, [np.array([limit, 0], kind)] * 2)["x"].numpy().tolist() == [limit, 0]
        (tmp_path / "mean.h5").unlink()
        for value in (limit + 1, np.iinfo(kind).max, *([np.iinfo(kind).min] if kind == "i8" else [])):
            with pytest.raises(ValueRangeError, match="model/x"):
                mean(tmp_path, [np.array([1, 2], kind), np.array([0, value], kind)])
            assert not (tmp_path / "mean.h5").exists()
    largest = np.array([np.iinfo("i4").max, np.iinfo("i4").min], "i4")
    assert same(mean(tmp_path, [largest, largest], [0.1, 0.7])["x"].numpy(), largest)


SHAPES: dict[str, NDArray] = {
    "scalar": np.array(3.0),
    "scalar integer": np.array(8),
    "empty": np.empty((0, 3), "f4"),
    "empty inside": np.empty((3, 0)),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "long rows": np.arange(6 << 18, dtype="f8").reshape(2, -1),
    "many rows": np.arange(9 << 18, dtype="f4"),
    "big-endian": np.arange(5, dtype=">f4"),
    "float8": np.arange(5).astype(ml_dtypes.float8_e4m3fn),
}


def test_shapes_and_pieces(tmp_path: Path) -> None:
    """The mean of equal archives is the archive itself, whatever the windows."""
    told: list[tuple[int, int]] = []
    found = mean(tmp_path, [SHAPES, SHAPES], [1, 3], progress=lambda *at: told.append(at))
    assert list(found) == list(SHAPES)
    for key, array in SHAPES.items():
        assert same(found[key].numpy(), array), key
    total = 2 * sum(array.nbytes for array in SHAPES.values())
    assert told == sorted(set(told))
    assert told[-1] == (total, total)


def test_one_archive_and_a_zero_weight(tmp_path: Path) -> None:
    one, other = np.array([1.5, 2.5], "f4"), np.array([9.0, 9.0], "f4")
    assert same(mean(tmp_path, [one])["x"].numpy(), one)
    assert same(mean(tmp_path, [one, other], [2, 0])["x"].numpy(), one)


def test_what_is_equal_everywhere_is_taken_over(tmp_path: Path) -> None:
    arrays = {
        "text": np.array(["a", "b"]),
        "flags": np.array([True, False]),
        "times": np.array(["2026-01-01"], "M8[D]"),
        "bytes": np.array([b"xy"]),
        "pairs": np.zeros(2, [("a", "i4"), ("b", "f8")]),
    }
    record = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    record["foreign"] = Array("custom", (2,), "pickle", b"\1\2\3")
    archives = clients(tmp_path, [record, record, record])
    archive.mean(archives, [1, 2, 3], out=tmp_path / "mean.h5")
    found = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert list(found) == list(record)
    for key in record:
        assert (found[key].dtype, found[key].shape, found[key].stype, found[key].data) == (
            record[key].dtype,
            record[key].shape,
            record[key].stype,
            record[key].data,
        )
    for key, array in arrays.items():
        other = (
            array[::-1].copy()
            if key in ("text", "flags")
            else np.frombuffer(b"\1" * array.nbytes, array.dtype)
        )
        with pytest.raises(UnsupportedDtypeError, match=f"model/{key}"):
            mean(tmp_path, [arrays, {**arrays, key: other}])


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros(3, "f4")},
        {"x": np.zeros((3, 1))},
        {"x": np.zeros(3, ">f8")},
        {"y": np.zeros(3)},
        {},
        {"x": np.zeros(3), "y": np.zeros(3)},
        {"x": np.array(["a"] * 3)},
    ],
)
def test_schemas_that_differ(tmp_path: Path, other: dict[str, NDArray]) -> None:
    for order in (1, -1):
        paths = clients(tmp_path, [{"x": np.zeros(3)}, other][::order])
        with pytest.raises(ValueError, match="client1"):
            archive.mean(paths, out=tmp_path / "mean.h5")
        assert not (tmp_path / "mean.h5").exists()


def test_another_order_of_arrays_is_no_difference(tmp_path: Path) -> None:
    one, two = {"a": np.array([1.0]), "b": np.array([2.0])}, {"b": np.array([4.0]), "a": np.array([3.0])}
    found = mean(tmp_path, [one, two])
    assert {key: array.numpy().tolist() for key, array in found.items()} == {"a": [2], "b": [3]}
    assert list(found) == ["a", "b"]


def test_several_records(tmp_path: Path) -> None:
    def given(value: float) -> RecordSet:
        return RecordSet({name: ArrayRecord([np.full(2, value + n)]) for n, name in enumerate("ab")})

    paths = clients(tmp_path, [given(1), given(3)])
    archive.mean(paths, out=tmp_path / "mean.h5")
    with archive.open(tmp_path / "mean.h5") as handle:
        assert handle["a", "0"].numpy().tolist() == [2, 2]
        assert handle["b", "0"].numpy().tolist() == [3, 3]


@pytest.mark.parametrize(
    "weights",
    [[1], [1, 2, 3], [], [-1, 2], [0, 0], [float("nan"), 1], [float("inf"), 1], ["x", 1], [1e308, 1e308]],
)
def test_bad_weights(tmp_path: Path, weights: Any) -> None:
    paths = clients(tmp_path, [np.zeros(2), np.zeros(2)])
    archive.save({"old": np.zeros(1)}, tmp_path / "mean.h5")
    with pytest.raises(ValueError):  # noqa: PT011 - float("x") has its own words
        archive.mean(paths, weights, out=tmp_path / "mean.h5")
    assert list(archive.load(tmp_path / "mean.h5").array_records["model"]) == ["old"]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_pattern_names_the_archives(tmp_path: Path) -> None:
    clients(tmp_path, [np.array([1.0]), np.array([2.0])])
    for given, inputs, wanted in ((f"{tmp_path}/*.h5", 2, 1.5), (tmp_path / "client1.h5", 1, 2.0)):
        assert archive.mean(given, out=tmp_path / "mean").inputs == inputs
        assert archive.load(tmp_path / "mean").array_records["model"]["x"].numpy().tolist() == [wanted]
    with pytest.raises(MissingError, match="no file matches"):
        archive.mean(f"{tmp_path}/*.hdf", out=tmp_path / "mean")


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no archives"):
        archive.mean([], out=tmp_path / "mean.h5")
    with pytest.raises(MissingError):
        archive.mean([tmp_path / "none.h5"], out=tmp_path / "mean.h5")
    paths = clients(tmp_path, [np.zeros(2)])
    with pytest.raises(ExistsError):
        archive.mean(paths, out=paths[0], overwrite=False)
    assert list(tmp_path.iterdir()) == paths


@pytest.mark.parametrize("which", [0, 1])
def test_over_one_of_its_inputs(tmp_path: Path, which: int) -> None:
    large = np.arange(9 << 17, dtype="f8")
    paths = clients(tmp_path, [large, large + 2])
    report = archive.mean(iter(paths), iter([1, 1]), out=paths[which], created=CREATED, durable=False)
    assert np.array_equal(archive.load(paths[which]).array_records["model"]["x"].numpy(), large + 1)
    assert report.array_bytes == large.nbytes
    assert sorted(tmp_path.iterdir()) == paths


def test_damage_publishes_nothing(tmp_path: Path) -> None:
    paths = clients(tmp_path, [np.arange(3 << 18, dtype="f8")] * 2)
    with paths[1].open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"\xff")
    with pytest.raises(DigestError):
        archive.mean(paths, out=tmp_path / "mean.h5")
    assert sorted(tmp_path.iterdir()) == paths


def test_infinities_and_nans_are_counted(tmp_path: Path) -> None:
    inf, nan = float("inf"), float("nan")
    one, two = np.array([1.0, 2.0, -3.0]), np.array([inf, -inf, nan])
    for bad, kinds in ((two, ["f8", "f4", "f2", ">f4", "c16"]), (np.array([nan, inf, -inf]), ["f8"])):
        for kind in kinds:
            inputs = clients(tmp_path, [{"x": one.astype(kind)}, {"x": bad.astype(kind)}])
            with pytest.raises(ValueRangeError, match=r"client1.h5: 'model/x': 1 NaN and 2 infinite of 3"):
                archive.mean(inputs, out=tmp_path / "mean.h5")
            assert not (tmp_path / "mean.h5").exists()
    wide = [np.array([1e308, 2.0])] * 3  # its sum overflows, and no input is to blame
    assert mean(tmp_path, wide)["x"].numpy().tolist() == [inf, 2.0]


def test_infinities_and_nans_that_are_allowed(tmp_path: Path) -> None:
    """IEEE arithmetic, without a warning: a client that diverged shows in the mean."""
    inf, nan = float("inf"), float("nan")
    one, two = np.array([inf, inf, nan, 1e308, 1.0]), np.array([1.0, -inf, 1.0, 1e308, 1.0])
    found = mean(tmp_path, [one, two], nan="allow")["x"].numpy()
    assert np.array_equal(found[:3], [inf, nan, nan], equal_nan=True)
    assert found[4] == 1
    narrow = mean(tmp_path, [np.array([inf, nan, 65504], "f2")] * 2, nan="allow")["x"].numpy()
    assert np.array_equal(narrow, np.array([inf, nan, 65504], "f2"), equal_nan=True)


def test_metrics_are_left_out(tmp_path: Path) -> None:
    paths = clients(tmp_path, [np.zeros(1)] * 2, metrics={"loss": 1.0})
    archive.mean(paths, out=tmp_path / "mean.h5")
    assert list(archive.load(tmp_path / "mean.h5")) == ["model"]


def test_ties_of_all_archives_are_kept(tmp_path: Path) -> None:
    """500 ties of 1 MB became 502 MB."""
    files = []
    for number in range(2):
        x, y, text = np.full(1 << 17, float(number)), np.full(3, number, "f4"), np.array(["a", "b"])
        apart = y if number else y.copy()  # tied in one of the two only
        tied = {f"x{tie}": x for tie in range(50)} | {f"text{tie}": text for tie in range(3)}
        files.append(tied | {"turned": x.reshape(2, -1), "y": y, "apart": apart})
    paths = clients(tmp_path, files)
    report = archive.mean(paths, out=tmp_path / "mean.h5", durable=False)
    assert report.arrays == 56
    assert report.array_bytes == 2 * (1 << 20) + 2 * 12 + 2
    assert archive.verify(tmp_path / "mean.h5").ok
    found = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert all((found[f"x{tie}"].numpy() == 0.5).all() for tie in range(50))
    assert (found["turned"].numpy() == 0.5).all()
    assert found["text2"].numpy().tolist() == ["a", "b"]
    assert found["apart"].numpy().tolist() == found["y"].numpy().tolist() == [0.5] * 3


def test_progress_ends_where_an_input_is_left_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for path in paths:
        archive.save({"w": np.ones(300_000), "name": np.array(["a"])}, path, durable=False)
    content = bytearray(paths[1].read_bytes())
    content[2_300_000] ^= 1  # of the last window: most of all was added up by then
    paths[1].write_bytes(content)
    told: list[tuple[int, int]] = []
    report = archive.mean(
        paths, out=tmp_path / "mean.h5", errors="skip", progress=lambda *at: told.append(at)
    )
    assert report.inputs == 2
    assert told[-1] == (2 * 2_400_001,) * 2
