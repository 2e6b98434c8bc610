"""Every vector of ``spec/v1/vectors`` through the library and through the independent reader."""

from __future__ import annotations

import base64
import hashlib
import math
import mmap
import shutil
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest

import archive
from archive.testing.vectors import VectorReader, run_vectors
from spec.v1.vectors.generate import generate
from spec.v1.vectors.library import LibraryReader, LibraryVector
from tests.spec.reader import SpecError, SpecReader

VECTORS = Path(__file__).parents[2] / "spec/v1/vectors"
KINDS = ("arrays", "metrics", "configs")


class IndependentReader:
    """``tests/spec/reader.py`` as a reader of vectors."""

    def open(self, path: Path) -> IndependentVector:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return IndependentVector(b"")
            return IndependentVector(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def name_error(self, error: Exception) -> str | None:
        return error.args[0] if isinstance(error, SpecError) else None


class IndependentVector:
    def __init__(self, file: Any) -> None:
        self.reader = SpecReader(file)

    def values(self) -> object:
        return self.reader.values(), self.reader.values("attributes")

    def data(self, record: str, key: str) -> object:
        return self.reader.data(self.reader.find(record, key))

    def verify(self) -> list[tuple[str, int]]:
        return [(error.args[0], at) for error, at in self.reader.verify()]

    def describe(self) -> Mapping[str, Any]:
        reader, document = self.reader, self.reader.document
        values, attributes = reader.values(), reader.values("attributes")
        named = {n: dict(entries) for n, entries in document["values"] + document.get("attributes", [])}
        records = []
        for number, (kind, name) in enumerate(reader.records):
            said: dict[str, Any] = {"kind": KINDS[kind], "name": name}
            if kind:
                said["values"] = spell(values[number], named[number])
            else:
                said["attributes"] = spell(attributes.get(number, {}), named.get(number, {}))
                said["arrays"] = [self.array(row) for row in reader.rows if row.record == number]
            records.append(said)
        # values of a Context are spelled in the document, and nowhere else
        context = document["context"] if document["container"] == "context" else None
        head = {name: document[name] for name in ("container", "created", "writer")}
        return {**head, "context": context, "archive_digest": reader.digest.hex(), "records": records}

    def array(self, row: Any) -> dict[str, Any]:
        data = self.reader.data(row)
        return {
            "key": row.key.decode(), "dtype": row.kind.dtype, "shape": list(row.shape),
            "stype": row.kind.stype, "description": row.kind.description, "nbytes": row.nbytes,
            "data_bytes": len(data), "data_sha256": hashlib.sha256(data).hexdigest(),
            "digest": self.reader.array_digest(row).hex(),
        }  # fmt: skip


def spell(values: Mapping[str, Any], named: Mapping[str, Any]) -> list[Any]:
    """Return values as section 10.2 spells them, each under the type name of the document."""
    return [[key, [named[key][0], spell_one(value)]] for key, value in values.items()]


def spell_one(value: Any) -> Any:
    if isinstance(value, list):
        return [spell_one(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if type(value) is int and abs(value) >= 1 << 53:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        bits = struct.unpack(">Q", struct.pack(">d", value))[0]
        named = {0x7FF8 << 48: "nan", 0x7FF0 << 48: "inf", 0xFFF0 << 48: "-inf"}
        return named.get(bits, f"{bits:016x}")
    return value


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
    kept = {path.relative_to(VECTORS): path.read_bytes() for path in VECTORS.glob("*valid/*.*")}
    assert sorted(made) == sorted(kept)
    assert [str(path) for path, data in made.items() if data != kept[path]] == []
