"""What is measured is right: every peer and operation, with timing off, returns what was saved."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.operations import OPERATIONS, target_of, touch
from benchmarks.peers import PEERS, Peer, missing
from benchmarks.shapes import SHAPES, arrays_of, stage

Arrays = dict[str, np.ndarray[Any, Any]]
SMOKE = SHAPES["smoke"]
CELLS = [(peer, name) for peer in PEERS.values() for name in OPERATIONS if name in peer.operations]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    staged = tmp_path_factory.mktemp("staged") / "smoke"
    stage(SMOKE, staged)
    return arrays_of(SMOKE.entries, bytearray(staged.read_bytes()))


@pytest.fixture
def made(request, arrays, tmp_path):
    """A peer with the smoke shape saved; libraries may warn as they like."""
    peer_type = request.param
    if missing(peer_type):
        pytest.skip(f"{missing(peer_type)} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = peer_type(tmp_path / peer_type.writes, SMOKE.entries)
        writer = next(p for p in PEERS.values() if p.writes == peer.writes and "save" in p.operations)
        saver = writer(tmp_path / writer.writes, SMOKE.entries)
        saver.take(arrays)
        saver.save(False)
        yield peer


def same(peer: Peer, value: Any, wanted: np.ndarray[Any, Any]) -> bool:
    found = peer.elements(value)
    return found.shape == wanted.shape and found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("made", "name"), CELLS, indirect=["made"], ids=[f"{peer.name}-{name}" for peer, name in CELLS]
)
def test_result(made: Any, name: str, arrays: Arrays) -> None:
    operation, target = OPERATIONS[name], target_of(SMOKE)
    if operation.writes:
        made.remove()
        assert not made.path.exists()
        made.take(arrays)
    result = operation.run(made, target)
    if operation.writes:
        assert made.path.exists()
        reader = made if "load" in made.operations else PEERS[_reader(made)](made.path, SMOKE.entries)
        result = reader.load_all() if "load" in reader.operations else reader.map_all()
        made = reader
    if name == "verify":
        assert result is True
    elif name == "drain":
        assert result == sum(touch(array) for array in arrays.values()) > 0
        keys = set(arrays)
        for key, value in made.drain():  # one at a time: the next may take its memory
            assert same(made, value, arrays[key])
            keys.remove(key)
        assert not keys
    elif name in ("open-list", "ways-list"):
        assert sorted(result) == sorted(arrays)
    elif name in ("open-one", "ways-one"):
        assert same(made, result, arrays[target.key])
    elif name == "slice":
        assert same(made, result, arrays[target.sliced][target.start : target.stop])
    else:
        assert set(result) == set(arrays)
        assert all(same(made, result[key], array) for key, array in arrays.items())
    made.remove()
    assert list(made.path.parent.iterdir()) == []


def test_each_run_meets_a_schema_for_the_first_time(arrays: Arrays, tmp_path: Path) -> None:
    kept = importlib.import_module("archive.engine.write.schema")._kept
    for name, left in (("fedarchive", 0), ("fedarchive again", 1)):
        kept.clear()
        peer = PEERS[name](tmp_path / name, SMOKE.entries)
        peer.take(arrays)
        peer.save(False)
        assert len(kept) == 1
        peer.forget()
        assert len(kept) == left


def _reader(peer: Peer) -> str:
    """Name a peer that reads back what this one writes."""
    return next(
        name for name, p in PEERS.items() if p.writes == peer.writes and p.operations & {"load", "map"}
    )
