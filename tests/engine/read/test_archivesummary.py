"""What is shown of an open archive: nothing of an array is read, and nothing is opened for it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.display.texts import middle_elided
from archive.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from tests.hostiletexts import STORABLE, require_inert
from tests.storage.folderstore import FolderStore, reach


def test_names_and_sizes_are_shown(tmp_path: Path) -> None:
    records = RecordDict(
        {
            "model": ArrayRecord([np.zeros((2, 3), "f4"), np.zeros(5, "i1")]),
            "fit": MetricRecord({"loss": 0.5, "curve": [0.5] * 20_000}),
            "run": ConfigRecord({"name": "a\nb"}),
        }
    )
    archive.save(records, tmp_path / "a.h5", created="2026-01-02T03:04:05Z")
    with archive.open(tmp_path / "a.h5") as handle:
        lines = repr(handle).splitlines()
        assert lines[0].startswith(f"<fedarchive.Archive {str(tmp_path / 'a.h5')!r}: 2 arrays, ")
        assert lines[1].startswith("recorddict, format 1.0, created 2026-01-02T03:04:05Z by fedarchive ")
        assert lines[2:] == [
            "arrays 'model': 2",
            "    0  float32  (2, 3)  24 bytes",
            "    1  int8     (5,)    5 bytes",
            "metrics 'fit': 2",
            "    loss   0.5",
            "    curve  156.2 KiB in a dataset",
            "configs 'run': 1",
            r"    name  'a\nb'",
        ]
        texts = require_inert(repr(handle), handle._repr_html_()).texts
        assert {"model", "fit", "run", "float32", "156.2 KiB in a dataset"} <= set(texts)


def test_damaged_arrays_are_shown_and_stay_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.full(100_000, 7.0)}, path)
    content = bytearray(path.read_bytes())
    at = content.index(np.full(8, 7.0).tobytes()) + 4096
    content[at : at + 8] = b"damaged!"
    path.write_bytes(content)
    with archive.open(path) as handle:
        for shown in (handle, handle.records, handle.records["model"], handle["w"]):
            assert "float64" in repr(shown)
            assert "781.2 KiB" in shown._repr_html_()
        with pytest.raises(archive.ArchiveError):
            handle["w"].numpy()


def test_nothing_is_opened_to_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.zeros(3)}, path)
    with archive.open(path) as handle:
        again, array, record = pickle.loads(pickle.dumps((handle, handle["w"], handle.records["model"])))
    path.unlink()
    for _ in range(2):
        assert repr(again) == f"<fedarchive.Archive {str(path)!r}: not opened yet>"
        assert "not opened yet" in again._repr_html_()
        assert repr(array).endswith("data=<not opened yet>)")
        assert "not opened yet" in array._repr_html_()
        assert "not opened yet" in repr(record)
    with pytest.raises(archive.ArchiveError):
        again.info  # noqa: B018 which opens it
    assert repr(handle) == f"<fedarchive.Archive {str(path)!r}: closed>"
    assert "closed" in handle._repr_html_()


def test_arrays_of_a_closed_archive_are_shown(tmp_path: Path) -> None:
    archive.save({f"w{number}": np.zeros(3) for number in range(100)}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        records, array = handle.records, handle["w7"]
    for shown in (records, records["model"], array):
        assert "(3,)" in repr(shown)
        assert "24 bytes" in shown._repr_html_()


def test_showing_makes_no_array_of_a_record(tmp_path: Path) -> None:
    archive.save({f"w{number}": np.zeros(3) for number in range(100)}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        record = handle.records["model"]
        assert isinstance(record, ArrayRecord)
        assert "w99" in repr(record) + record._repr_html_()
        assert record._unmade is not None
        assert list(record.items())[:6] == record.peek(range(6))


def test_hostile_names_in_a_file_are_text(tmp_path: Path) -> None:
    arrays = {name: np.zeros(1) for name in STORABLE}
    archive.save(
        arrays, tmp_path / "a.h5", metrics=dict.fromkeys(STORABLE, 1), configs={n[:99]: n for n in STORABLE}
    )
    with archive.open(tmp_path / "a.h5") as handle:
        for shown in (handle, handle.records, handle.records["model"]):
            page = require_inert(repr(shown), shown._repr_html_())
            found = "".join(page.texts)
            assert all(middle_elided(name, 160) in found for name in STORABLE[:30])


def test_values_that_cannot_be_read_are_a_remark(tmp_path: Path) -> None:
    """As those that a later version wrote: the names of the arrays are shown all the same."""
    path = tmp_path / "a.h5"
    archive.save({"w": np.zeros(3)}, path, metrics={"loss": 0.5})
    with archive.open(path) as handle:
        listed = handle._reader.values.document["values"]
        listed[0][2][0][1][0] = "quaternion"
        assert "w  float64  (3,)  24 bytes" in repr(handle)
        assert "the value type 'quaternion' is unknown" in repr(handle)
        assert "quaternion" in handle._repr_html_()


def test_a_foreign_file_is_shown(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["w"] = np.zeros(3)
    with archive.open(tmp_path / "f.h5", foreign=True) as handle:
        assert "a foreign file: nothing is verified" in repr(handle)
        assert "float64" in handle._repr_html_()


def test_a_remote_archive_is_asked_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FolderStore(tmp_path)
    reach(bucket, monkeypatch)
    archive.save(
        {f"w{n}": np.zeros(3) for n in range(100)}, "folder://m/a.h5", metrics={"curve": [0.5] * 20_000}
    )
    with archive.open("folder://m/a.h5") as handle:
        records = handle.load("w0")
        bucket.clear()
        (tmp_path / "m/a.h5").unlink()
        for shown in (handle, handle["w7"], records):
            require_inert(repr(shown), shown._repr_html_())
        assert "... 92 more" in repr(handle)
        assert bucket.asked == []
