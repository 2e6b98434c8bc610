"""Every vector of ``spec/v1/vectors`` through the library and through the independent reader."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest

import archive
from archive.format.values import decode_value
from archive.testing.vectors import VectorReader, run_vectors
from spec.v1.vectors.generate import generate, save
from spec.v1.vectors.library import LibraryReader, LibraryVector
from tests.spec.independent import KINDS, IndependentReader
from tests.spec.reader import SpecReader
from tests.spec.switched import IMPLIED, SOURCE, checks, unnoticed

VECTORS = Path(__file__).parents[2] / "spec/v1/vectors"


READERS: dict[str, VectorReader] = {"library": LibraryReader(), "independent": IndependentReader()}


@pytest.mark.parametrize("name", READERS)
def test_every_vector(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = list(run_vectors(VECTORS, READERS[name]))
    with capsys.disabled():
        for kind in ("valid", "invalid"):
            of_kind = [result for result in results if result.name.startswith(f"{kind}/")]
            right = sum(not result.problem for result in of_kind)
            sys.stdout.write(f"\n{name} reader: {right} of {len(of_kind)} {kind} vectors")
    assert {result.name: result.problem for result in results if result.problem} == {}


class LyingVector(LibraryVector):
    def __init__(self, handle: archive.Archive) -> None:
        super().__init__(handle)
        self.said = {**super().describe(), "created": "yesterday"}

    def describe(self) -> Mapping[str, Any]:
        return self.said


class Liar(LibraryReader):
    def open(self, path: Path) -> LibraryVector:
        return LyingVector(super().open(path).handle)


class Trusting(LibraryReader):
    def open(self, path: Path) -> LibraryVector:
        return super().open(VECTORS / "valid/empty.h5")


class Refusing(LibraryReader):
    def open(self, path: Path) -> LibraryVector:
        raise archive.errors.VersionError("no")


@pytest.mark.parametrize(
    ("reader", "valid", "invalid"),
    [
        (Liar(), 'created is "yesterday", not "2026-01-01T00:00:00Z"', ""),
        (Trusting(), "archive_digest is", "nothing was refused, but Damaged is due at open"),
        (Refusing(), "refused: Version: no", "Version at open, not Damaged at open"),
    ],
)
def test_what_a_wrong_reader_is_told(tmp_path: Path, reader: VectorReader, valid: str, invalid: str) -> None:
    for name in ("valid/recordset", "invalid/index-flipped"):
        (tmp_path / name).parent.mkdir()
        for end in (".h5", ".json"):
            shutil.copy(VECTORS / (name + end), tmp_path / (name + end))
    first, second = run_vectors(tmp_path, reader)
    assert (first.name, second.name) == ("invalid/index-flipped", "valid/recordset")
    assert first.problem == invalid
    assert second.problem.startswith(valid)


@pytest.mark.slow
def test_every_check_of_the_independent_reader_is_noticed() -> None:
    """A rule that no vector breaks alone may be missing from another reader: 25 of 115 were not noticed."""
    source = SOURCE.read_text(encoding="utf-8")
    every = list(checks(source))
    assert len(every) > 100
    assert [check.text for check in every if check.implied is None and unnoticed(source, check)] == []
    assert IMPLIED.keys() == {check.text.partition("': ")[2] for check in every if check.implied}


def container_of(said: Mapping[str, Any]) -> Any:
    """Return the records that a vector for writers spells, in the types of the library."""
    made: dict[str, archive.Array] = {}
    records: list[tuple[str, str, Any]] = []
    for record in said["records"]:
        kind, name = record["kind"], record["name"]
        if kind != "arrays":
            values: dict[str, Any] = {key: decode_value(value) for key, value in record["values"]}
            records.append(
                (kind, name, (archive.MetricRecord if kind == "metrics" else archive.ConfigRecord)(values))
            )
            continue
        arrays = archive.ArrayRecord()
        for array in record["arrays"]:
            if "same_memory_as" in array:
                found = made[json.dumps(array["same_memory_as"])]
            else:
                data = base64.b64decode(array["data"])
                found = archive.Array(array["dtype"], tuple(array["shape"]), array["stype"], data)
            arrays[array["key"]] = made[json.dumps([name, array["key"]])] = found
        arrays.attributes.update({key: decode_value(value) for key, value in record["attributes"]})
        records.append((kind, name, arrays))
    context = said["context"]
    if (said["container"] if context is None else context["state"]) == "recorddict":
        whole: Any = archive.RecordDict({name: record for _, name, record in records})
    else:
        whole = archive.RecordSet(
            *({name: record for of, name, record in records if of == kind} for kind in KINDS)
        )
    if context is None:
        return whole
    configs: dict[str, Any] = {
        field: {key: decode_value(value) for key, value in context[field]}
        for field in ("node_config", "run_config")
    }
    numbers: dict[str, Any] = {
        name: decode_value(context[name]) for name in ("run_id", "node_id", "series_id") if name in context
    }
    return archive.Context(state=whole, series_id=numbers.pop("series_id", 0), **numbers, **configs)


@pytest.mark.must("FILE-4")
@pytest.mark.parametrize("path", sorted(VECTORS.glob("writer/*.json")), ids=lambda path: path.stem)
def test_the_writer_makes_the_bytes_of_a_vector(path: Path, tmp_path: Path) -> None:
    said = json.loads(path.read_text(encoding="utf-8"))
    save(container_of(said), tmp_path / "made.h5")
    assert (tmp_path / "made.h5").read_bytes() == (VECTORS / said["file"]).read_bytes()


@pytest.mark.must("FILE-4")
@pytest.mark.parametrize("path", sorted(VECTORS.glob("writer/*.json")), ids=lambda path: path.stem)
def test_what_was_read_is_written_again_as_it_was(path: Path, tmp_path: Path) -> None:
    """A header of .npy that is not the canonical one was lost where loaded records were saved."""
    said = json.loads(path.read_text(encoding="utf-8"))
    whole = VECTORS / said["file"]
    with archive.open(whole) as handle:
        context = said["context"] is not None
        save(handle.context if context else handle.records, tmp_path / "opened.h5")
    save(container_of(said) if context else archive.load(whole), tmp_path / "loaded.h5")
    for name in ("opened.h5", "loaded.h5"):
        assert (tmp_path / name).read_bytes() == whole.read_bytes(), name


@pytest.mark.must("HDF5-3")
def test_they_are_hdf5(tmp_path: Path) -> None:
    for path in VECTORS.glob("valid/*.h5"):
        reader = SpecReader(path.read_bytes())
        with h5py.File(path) as file:
            assert file["index"].id.get_offset() == reader.index_at
            assert reader.index_at + file["index"].size == path.stat().st_size
            assert [len(file[kind]) for kind in KINDS] == [
                sum(found == number for found, _ in reader.records) for number in range(3)
            ]


@pytest.mark.must("FILE-4")
def test_they_are_generated_again_byte_for_byte(tmp_path: Path) -> None:
    generate(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    kept = {
        path.relative_to(VECTORS): path.read_bytes()
        for path in VECTORS.glob("*/*.*")
        if path.parent.name != "__pycache__"
    }
    assert sorted(made) == sorted(kept)
    assert [str(path) for path, data in made.items() if data != kept[path]] == []
