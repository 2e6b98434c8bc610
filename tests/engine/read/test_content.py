"""Verifying finds what breaks a rule though every digest holds."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import archive
from archive import tuning
from archive.errors import DigestError, HostileFileError, VersionError
from archive.format.constants import DATA_AT
from tests.crafting import Crafted, write_sample
from tests.descriptors import open_files
from tests.trees import footer_of, with_region, with_tree_of_index

INVALID = Path(__file__).parents[3] / "spec/v1/vectors/invalid"


@pytest.mark.must("VERIFY-3")
@pytest.mark.parametrize("path", sorted(INVALID.glob("*.h5")), ids=lambda path: path.stem)
def test_no_invalid_vector_is_called_ok(path: Path) -> None:
    """71 of 214 were: their bytes are right, and break a rule of documents, values or text."""
    try:
        report = archive.verify(path)
    except archive.ArchiveError:
        return
    assert not report.ok
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if said["error"] == "Hostile" and said["when"] != "verify":
        assert [failure for failure in report.failures if failure.bytes_match]


def footer_region(data: bytes) -> bytes:
    """Return the HDF5 metadata of an archive."""
    footer = footer_of(data)
    return data[footer.meta_at : footer.index_at]


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(write_sample(tmp_path / "sample.h5"))


def test_a_value_is_named(tmp_path: Path, crafted: Crafted) -> None:
    crafted.document["values"][1][2][0] = ["name", ["str", 5]]
    path = crafted.write(tmp_path / "bad.h5")
    [failure] = archive.verify(path).failures
    assert (failure.record, failure.key, failure.bytes_match) == ("", "document", True)
    assert "/name'" in failure.problem
    assert path.read_bytes()[failure.offset :].startswith(b'{"container"')
    with pytest.raises(HostileFileError, match=r"document: an invalid value"):
        archive.open(path, verify="open")


def test_elements_of_text_are_named(tmp_path: Path, crafted: Crafted) -> None:
    crafted.write_elements("model", "text", b"\xff")
    path = crafted.write(tmp_path / "bad.h5")
    [failure] = archive.verify(path).failures
    assert (failure.name, failure.bytes_match) == ("model/text", True)
    assert "UTF-8" in failure.problem
    with pytest.raises(HostileFileError, match="model/text"):
        archive.open(path, verify="open")


def test_damage_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.array(["abc", "de"]), "b": np.zeros(3)}, path)
    with archive.open(path) as handle:
        offset = handle["w"].payload.where[1]  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[offset] = 0xFF
    path.write_bytes(data)
    [failure] = archive.verify(path).failures
    assert (failure.name, failure.bytes_match) == ("model/w", False)
    with pytest.raises(DigestError):
        archive.open(path, verify="open")


@pytest.mark.needs("/proc/self/fd")
def test_a_later_version_stays_one(tmp_path: Path, crafted: Crafted) -> None:
    crafted.footer[12:16] = (1).to_bytes(4, "little")
    crafted.document["container"] = "later"
    path = crafted.write(tmp_path / "later.h5")
    with pytest.raises(VersionError):
        archive.verify(path)
    with pytest.raises(VersionError) as caught:
        archive.open(path, verify="open")
    assert open_files(tmp_path) == [], f"its handle lives in the traceback of {caught.value}"


@pytest.mark.slow
def test_values_that_are_datasets_are_checked_one_at_a_time(tmp_path: Path) -> None:
    """Their lists take four times their bytes: eight at once would be more than any reader has asked for."""
    metrics = {f"history {number}": [0.5 + number] * 500_000 for number in range(8)}
    archive.save({}, tmp_path / "a.h5", metrics={"m": metrics})
    del metrics
    tracemalloc.start()
    try:
        assert archive.verify(tmp_path / "a.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 500_000 * 32


def test_a_damaged_value_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({}, path, metrics={"m": {"history": [0.5] * 9000}})
    data = bytearray(path.read_bytes())
    data[DATA_AT + 3] ^= 1
    path.write_bytes(data)
    [failure] = archive.verify(path).failures
    assert (failure.name, failure.bytes_match) == ("m/history", False)


def test_text_is_checked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece at a time, each as long as its elements are once they are text."""
    monkeypatch.setattr(tuning, "SCAN_BYTES", 4096)
    archive.save({"text": np.array(["x" * 10] * 999 + ["last"], "<U200")}, tmp_path / "a.h5")
    assert archive.verify(tmp_path / "a.h5")
    crafted = Crafted(tmp_path / "a.h5")
    stored = b"x" * 9990 + b"\xff" * 10
    crafted.write_elements("model", "text", stored)
    [failure] = archive.verify(crafted.write(tmp_path / "bad.h5")).failures
    assert failure.name == "model/text"


def test_a_context_is_checked(tmp_path: Path) -> None:
    context = archive.Context(1, 2, {"a": 1}, archive.RecordDict(), {})
    archive.save(context, tmp_path / "a.h5")
    assert archive.verify(tmp_path / "a.h5")
    crafted = Crafted(tmp_path / "a.h5")
    del crafted.document["context"]["node_id"]
    [failure] = archive.verify(crafted.write(tmp_path / "bad.h5")).failures
    assert "node_id" in failure.problem


def test_an_array_called_as_a_region_hides_nothing(tmp_path: Path) -> None:
    """A record without a name and a key that verify uses itself: the tree is compared all the same."""
    path = tmp_path / "a.h5"
    keys = ("document", "HDF5 metadata", "index", "text")
    archive.save(
        archive.RecordSet({"": archive.ArrayRecord({key: archive.Array(np.ones(9)) for key in keys})}), path
    )
    data = path.read_bytes()
    with archive.open(path) as handle:
        offsets = [handle["", key].payload.where[1] for key in keys[:3]]  # type: ignore[attr-defined]
    changed = bytearray(with_region(data, footer_region(data).replace(b"numpy.ndarray", b"numpy.ndarraz", 1)))
    for offset in offsets:
        changed[offset] ^= 1
    path.write_bytes(changed)
    failures = archive.verify(path).failures
    assert [(at.record, at.key) for at in failures[:3]] == [("", key) for key in keys[:3]]
    assert "stype" in failures[3].problem


def test_a_text_that_another_writer_calls_otherwise(tmp_path: Path) -> None:
    """[VALUE-13]: the document has the type of a value, and no reader checks that of its row."""
    path = tmp_path / "a.h5"
    archive.save({}, path, configs={"long": "x" * 70_000})
    crafted = Crafted(path)
    row = crafted.sections["types"][0]
    row["dtype_at"], row["dtype_bytes"] = crafted.add_text(b"text")
    path.write_bytes(with_tree_of_index(crafted.assemble(), tmp_path / "scratch.h5"))
    assert archive.verify(path).ok
    with archive.open(path) as handle:
        assert handle.records["configs"]["long"] == "x" * 70_000


def test_a_key_that_is_no_text_is_reported(tmp_path: Path, crafted: Crafted) -> None:
    crafted.sections["pool"][0] = 0xFF
    report = archive.verify(crafted.write(tmp_path / "bad.h5"))
    assert "name table" in [failure.key for failure in report.failures]
