"""Files in the place of a catalogue that are none: a history takes no note of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import tuning
from archive.checkpoints.cataloguefile import digest_of, find_catalogue, read_catalogue
from archive.errors import ArchiveError, ExistsError, HostileFileError, VersionError
from archive.storage.url import parse_url
from archive.tools.spelling import CATALOGUE_RECORD

Store = archive.CheckpointStore


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two rounds with a catalogue."""
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)
    store = Store(tmp_path / "run")
    for number in (1, 2):
        store.save({"w": np.zeros(2)}, number, client="c", metrics={"n": number})
        store.save({"w": np.zeros(2)}, number, metrics={"loss": number})
    return tmp_path / "run"


def forge(run: Path, change: Any, version: int = 1) -> Path:
    """Write what a catalogue holds after a change of it."""
    path = run / "catalogue.h5"
    records: Any = archive.load(path)
    arrays = {
        part: {key: array.numpy() for key, array in records[part].items()} for part in ("rounds", "clients")
    }
    change(arrays)
    made = archive.RecordSet()
    for part, columns in arrays.items():
        made[part] = archive.ArrayRecord(
            {key: archive.Array.from_numpy_ndarray(np.asarray(column)) for key, column in columns.items()}
        )
    archive.save(made, path, configs={CATALOGUE_RECORD: {"version": version}})
    return path


def nothing(arrays: Any) -> None:
    pass


def without_proofs(arrays: Any) -> None:
    del arrays["rounds"]["proof"]


def of_other_types(arrays: Any) -> None:
    arrays["rounds"]["values"] = np.array(["a"] * len(arrays["rounds"]["values"]))


def a_round_twice(arrays: Any) -> None:
    arrays["rounds"]["round"][1] = 1


def a_client_twice(arrays: Any) -> None:
    arrays["clients"]["round"][1] = 1


def a_client_without_a_name(arrays: Any) -> None:
    texts, ends = arrays["clients"]["texts"], arrays["clients"]["ends"]
    place = [bytes(texts[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)].index(b"")
    arrays["clients"]["name"][:] = place


HOSTILE = (without_proofs, of_other_types, a_round_twice, a_client_twice, a_client_without_a_name)


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile(run: Path, change: Any) -> None:
    expected = Store(run).history(clients=True)
    path = forge(run, change)
    with pytest.raises(HostileFileError):
        read_catalogue(parse_url(path), clients=True)
    found, digest, nbytes = find_catalogue(parse_url(path), clients=True)
    assert (found.numbers, digest, nbytes) == ([], "", 0)
    again = Store(run).history(clients=True)
    assert repr(dict(again)) == repr(dict(expected))


def test_what_is_forged_is_a_catalogue_else(run: Path) -> None:
    path = forge(run, nothing)
    found, digest, nbytes = read_catalogue(parse_url(path), clients=True)
    assert (found.numbers, len(found.clients), nbytes) == ([1, 2], 2, path.stat().st_size)
    assert digest == digest_of(parse_url(path))


def test_another_version_or_somebody_elses(run: Path) -> None:
    path = forge(run, nothing, version=2)
    with pytest.raises(VersionError):
        read_catalogue(parse_url(path), clients=False)
    shutil.copy(run / "rounds/00000001.h5", path)
    with pytest.raises(VersionError):
        read_catalogue(parse_url(path), clients=False)
    with pytest.raises(ExistsError, match="an archive has the name of the catalogue"):
        digest_of(parse_url(path))
    assert Store(run).history()["loss"].tolist() == [1, 2]


def test_too_long(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "catalogue.h5"
    monkeypatch.setattr(tuning, "CATALOGUE_MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ArchiveError, match="a catalogue of"):
        read_catalogue(parse_url(path), clients=False)
    assert Store(run).history()["loss"].tolist() == [1, 2]
