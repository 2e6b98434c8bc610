"""NaN and infinities are found in every float type, wherever they stand, whatever way the bytes take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.dtypes import ML_DTYPES, NDArray, parse_dtype
from archive.engine.write.finiteness import FinitenessCheck, NonFinite, _are_finite
from archive.engine.write.inputs import gather
from archive.engine.write.plan import timestamp
from archive.engine.write.saving import SaveOptions, save_inputs
from archive.errors import UnsupportedDtypeError
from archive.storage.url import parse_url
from archive.tuning import PIECE_BYTES

FLOATS = [
    *("float16", "float32", "float64", ">f2", ">f4", ">f8", "complex64", "complex128", ">c8", "longdouble"),
    *sorted(name for name in ML_DTYPES if "float" in name),
]


def found_in(path: Path, records: Any, **options: Any) -> list[tuple[str, int, int]]:
    check = FinitenessCheck()
    given: dict[str, Any] = {
        "overwrite": True, "durable": False, "keep_input": True, "spool": True, "gc_threshold": 1 << 40,
        "progress": None,
    }  # fmt: skip
    save_inputs(
        gather(records, "model", None, None),
        SaveOptions(parse_url(path), timestamp(None), **{**given, **options}, check=check),
    )
    assert archive.verify(path)
    return [(one.key, one.nans, one.infinities) for one in check.found()]


@pytest.mark.parametrize("name", FLOATS)
def test_every_type_as_numpy_has_it(name: str) -> None:
    """Of one and two bytes, every value there is, alone among zeros."""
    try:
        dtype = parse_dtype(name)
    except UnsupportedDtypeError:
        pytest.skip("not in this ml_dtypes")
    if dtype.itemsize <= 2:
        every = np.arange(1 << 8 * dtype.itemsize).astype(f"{dtype.byteorder}u{dtype.itemsize}").view(dtype)
    else:
        kind = f"f{dtype.itemsize // 2}" if dtype.kind == "c" else dtype
        info = np.finfo(kind)
        every = np.array([0, 1, -1, info.max, info.min, info.tiny, np.nan, np.inf, -np.inf], dtype)
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(every)
    assert _are_finite(every[:0])
    assert _are_finite(every[finite])
    for value in every[~finite]:
        array = np.zeros(100, dtype)
        array[37] = value
        assert not _are_finite(array), value


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "complex64", "bfloat16", "float8_e5m2"])
@pytest.mark.parametrize("nbytes", [64, 3 * PIECE_BYTES, 11 * PIECE_BYTES])
def test_wherever_they_stand(tmp_path: Path, name: str, nbytes: int) -> None:
    dtype = parse_dtype(name)
    count = nbytes // dtype.itemsize
    layers: dict[str, NDArray] = {f"w{place}": np.ones(count, dtype) for place in range(4)}
    layers["w1"][0] = np.nan
    layers["w1"][count - 1] = np.inf
    layers["w2"][count // 2] = -np.inf
    assert found_in(tmp_path / "a.h5", layers) == [("w1", 1, 1), ("w2", 0, 1)]
    assert found_in(tmp_path / "a.h5", iter(layers.items())) == [("w1", 1, 1), ("w2", 0, 1)]
    assert found_in(tmp_path / "a.h5", dict(layers), keep_input=False) == [("w1", 1, 1), ("w2", 0, 1)]
    with archive.open(tmp_path / "a.h5") as opened:
        assert found_in(tmp_path / "b.h5", opened.records) == [("w1", 1, 1), ("w2", 0, 1)]


def test_among_other_types(tmp_path: Path) -> None:
    """Integers that would be NaN as floats alarm nobody, and hide none."""
    layers: dict[str, Any] = {
        "i": np.full(7, -1), "u": np.full(9, 255, "u1"), "w": np.array([1, np.nan], "f4"),
        "b": np.ones(3, "?"),
        "d": np.array([np.inf, 0, -np.inf]), "text": np.array(["a", "bc"]), "t": np.array(["NaT"], "M8[s]"),
        "fine": np.ones(3, "f2"), "empty": np.zeros(0, "f4"), "scalar": np.array(np.nan),
        "fields": np.array([(1, np.nan)], "i4,f4"),
    }  # fmt: skip
    assert found_in(tmp_path / "a.h5", layers) == [("w", 1, 0), ("d", 0, 2), ("scalar", 1, 0)]
    assert found_in(tmp_path / "a.h5", {name: layers[name] for name in ("i", "u", "fine")}) == []
    assert found_in(tmp_path / "a.h5", {"i": layers["i"], "w": layers["w"]}) == [("w", 1, 0)]


def test_ties_metrics_and_strides(tmp_path: Path) -> None:
    bad = np.array([[1, np.nan, np.inf], [np.nan, 0, 0]], "f4")
    layers: dict[str, NDArray] = {
        "a": bad,
        "tied": bad,
        "fortran": np.asfortranarray(bad),
        "every other": bad[:, ::2],
    }
    records = archive.RecordDict(
        {
            "model": archive.ArrayRecord({key: archive.Array(array) for key, array in layers.items()}),
            "fit": archive.MetricRecord({"loss": float("nan"), "curve": [float("inf")] * 20_000}),
        }
    )
    found = [("a", 2, 1), ("fortran", 2, 1), ("every other", 1, 1)]
    assert found_in(tmp_path / "a.h5", layers) == found, "a tied array is stored once"
    assert sorted(found_in(tmp_path / "b.h5", records)) == sorted([*found, ("tied", 2, 1)])


def test_a_flower_array_of_serialised_elements(tmp_path: Path) -> None:
    array = archive.Array(np.array([np.nan, 1.0]))
    made = archive.Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=array.data)
    assert found_in(tmp_path / "a.h5", {"w": made}) == [("w", 1, 0)]


def test_pieces_of_an_iterator(tmp_path: Path) -> None:
    def layers() -> Iterator[tuple[str, NDArray]]:
        for number in range(3):
            yield f"w{number}", np.full(PIECE_BYTES, number / 0.5 if number < 2 else np.inf, "f4")

    assert found_in(tmp_path / "a.h5", layers()) == [("w2", 0, PIECE_BYTES)]


def test_what_is_said_of_an_array() -> None:
    one = NonFinite("model", "w", 3, 1, 1000)
    assert (one.record, one.key, one.nans, one.infinities, one.elements) == ("model", "w", 3, 1, 1000)
