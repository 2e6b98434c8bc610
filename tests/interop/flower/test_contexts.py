"""States of nodes by version, without Flower itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.checkpoints.lineage import Version
from archive.errors import DamagedError, ExistsError, StorageError
from archive.interop.flower.contexts import NodeContexts
from archive.storage.url import Location
from archive.tools.spelling import CHECKPOINT

TOKEN = "0123456789abcdef"


def contexts_in(folder: Path) -> NodeContexts:
    return NodeContexts(Location(str(folder)), "run")


def context(number: int) -> archive.Context:
    state = archive.RecordDict({"m": archive.ArrayRecord([np.full(3, number)])})
    return archive.Context(1, 2, {}, state, {})


def test_a_state_is_what_was_saved_and_its_file_says_whose(tmp_path: Path) -> None:
    contexts = contexts_in(tmp_path)
    version = contexts.save("Berlin", Version(3, 1, 1, TOKEN), context(3), {"node_id": "2"})
    assert contexts.versions("Berlin") == [version]
    assert contexts.open("Berlin", version) == context(3)
    with archive.open(tmp_path / f"run/contexts/Berlin/00000003-1-{TOKEN}.h5") as saved:
        marks = dict(saved.records[CHECKPOINT])
    assert marks == {"node": "Berlin", "node_id": "2", **version._asdict()}
    contexts.remove("Berlin", [version, version])
    assert contexts.versions("Berlin") == []


def test_a_state_of_an_attempt_is_never_replaced(tmp_path: Path) -> None:
    contexts = contexts_in(tmp_path)
    first = contexts.save("7", Version(3, 1, 1, TOKEN), context(1), {"node_id": "2"})
    second = contexts.save("7", Version(3, 1, 1, TOKEN), context(2), {"node_id": "2"})
    assert (first.turn, second.turn) == (1, 2)
    assert [contexts.open("7", version) for version in (first, second)] == [context(1), context(2)]
    with pytest.raises(ExistsError, match="another node called '7'"):
        contexts.save("7", Version(3, 1, 1, TOKEN), context(3), {"node_id": "4"})


def test_a_state_of_another_node_is_not_handed_out(tmp_path: Path) -> None:
    contexts = contexts_in(tmp_path)
    version = contexts.save("berlin", Version(3, 1, 1, TOKEN), context(3), {})
    (tmp_path / "run/contexts/berlin").rename(tmp_path / "run/contexts/Berlin")  # as on a system without case
    with pytest.raises(DamagedError, match="of node 'berlin', where that of 'Berlin'"):
        contexts.open("Berlin", version)


def test_nothing_is_written_or_removed_behind_a_planted_link(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    names = ["00000001-1.h5", "00000002-1.h5"]
    for name in names:
        (others / name).write_bytes(b"a thesis")
    (tmp_path / "run/contexts").mkdir(parents=True)
    (tmp_path / "run/contexts/7").symlink_to(others)
    contexts = contexts_in(tmp_path)
    with pytest.raises(StorageError, match="no link is followed"):
        contexts.save("7", Version(2, 1), context(2), {})
    with pytest.raises(StorageError, match="no link is followed"):
        contexts.remove("7", [Version(1, 1)])
    assert sorted(path.name for path in others.iterdir()) == names
    assert all((others / name).read_bytes() == b"a thesis" for name in names)


NODE = archive.ArrayRecord({"node": archive.Array(np.ones(2))})
STATES = {
    "no context": archive.RecordDict({"w": archive.ArrayRecord([np.ones(2)])}),
    "an older container": archive.Context(1, 2, {}, archive.RecordSet(), {}),
    "a name that is none": archive.Context(
        1, 2, {}, archive.RecordDict({CHECKPOINT: archive.ConfigRecord({"node": "../\0"})}), {}
    ),
    "an array as name": archive.Context(1, 2, {}, archive.RecordDict({CHECKPOINT: NODE}), {}),
}


@pytest.mark.parametrize("made", STATES)
def test_what_is_no_state_is_damage_that_the_client_goes_on_after(tmp_path: Path, made: str) -> None:
    contexts = contexts_in(tmp_path)
    version = contexts.save("7", Version(3, 1, 1, TOKEN), context(3), {"node_id": "2"})
    archive.save(STATES[made], tmp_path / f"run/contexts/7/{version.file}")
    with pytest.raises(DamagedError, match="not the state of a node"):
        contexts.open("7", version)
    with pytest.raises(ExistsError, match="another node called '7'"):
        contexts.save("7", version, context(3), {"node_id": "2"})
