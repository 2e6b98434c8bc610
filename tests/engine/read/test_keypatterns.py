"""Shell patterns of arrays: one rule for load, Archive.load and Archive.drain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import ArrayRecord, RecordSet

ONE = ["enc.0.w", "enc.0.b", "enc.1.w", "head", "a/b", "x[0]", "x0", "\u00e9.w"]
TWO = ["head", "enc.0.w", "a/c"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    records = {
        name: ArrayRecord({key: archive.Array(np.full(3, at)) for at, key in enumerate(keys)})
        for name, keys in {"model": ONE, "opt/m": TWO}.items()
    }
    archive.save(RecordSet(records, {"fit": archive.MetricRecord({"long": [1] * 9000})}), tmp_path / "a.h5")
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("enc.*", [("model", "enc.0.w"), ("model", "enc.0.b"), ("model", "enc.1.w"), ("opt/m", "enc.0.w")]),
        ("enc.?.b", [("model", "enc.0.b")]),
        ("enc.[!0].w", [("model", "enc.1.w")]),
        ("*.w", [("model", key) for key in ONE if key.endswith(".w")] + [("opt/m", "enc.0.w")]),
        ("model/enc*w", [("model", "enc.0.w"), ("model", "enc.1.w")]),
        ("opt/m/*", [("opt/m", key) for key in TWO]),
        ("*/head", [("model", "head"), ("opt/m", "head")]),
        ("*/a/*", [("model", "a/b"), ("opt/m", "a/c")]),
        ("head*", [("model", "head"), ("opt/m", "head")]),
        (
            ["hea?", "*.b", ("opt/m", "a/c"), "x0"],
            [("model", "enc.0.b"), ("model", "head"), ("model", "x0"), ("opt/m", "head"), ("opt/m", "a/c")],
        ),
        (["*/h*", "*/h*", "*d"], [("model", "head"), ("opt/m", "head")]),
        ("a/b", [("model", "a/b")]),
        ("x[0]", [("model", "x[0]")]),
        ("model/x[0]", [("model", "x[0]")]),
        ("model/head", [("model", "head")]),
        (["opt/m/a/c", "model/a/b"], [("model", "a/b"), ("opt/m", "a/c")]),
        ("model/long", None),
        ("x[01]", [("model", "x0")]),
        ("opt*", None),
        ("ENC.*", None),
        ("l*ng", None),
        ("fit/*", None),
        ("[", None),
        ("*\ud800", None),
    ],
)
def test_what_patterns_match(path: Path, pattern: Any, wanted: list[tuple[str, str]] | None) -> None:
    with archive.open(path) as handle:
        if wanted is None:
            for use in (
                archive.load,
                lambda _, keys: handle.load(keys),
                lambda _, keys: list(handle.drain(keys)),
            ):
                with pytest.raises(KeyError, match="no array matches"):
                    use(path, keys=pattern)
            return
        drained = [name for name, _ in handle.drain(pattern)]
        assert sorted(drained) == sorted(wanted)
        for found in (archive.load(path, keys=pattern), handle.load(pattern)):
            named = [(name, key) for name, record in found.parameters_records.items() for key in record]
            assert named == wanted
            assert found["fit"]["long"] == [1] * 9000


def test_a_key_stands_for_itself(path: Path) -> None:
    """Also one that looks like a pattern; and one that several records have must be named with its record."""
    with archive.open(path) as handle:
        assert [name[1] for name, _ in handle.drain(["x[0]", "a/b"])] == ["x[0]", "a/b"]
        for keys in ("head", ["*.w", "head"]):
            with pytest.raises(KeyError, match="several records"):
                handle.load(keys)
        for keys in ("long", "haed", "", ["*", "haed"]):
            with pytest.raises(KeyError, match="no array '"):
                handle.load(keys)
