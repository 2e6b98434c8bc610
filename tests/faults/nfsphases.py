"""What a program does on an NFS-like file system, phase by phase, and what may be found after a fault.

Each scene works in a folder of its own: prepared in the backing folder, worked in through the mount, looked
at in the backing folder again. In each lie files of others, which stay as they are.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import archive
from tests.faults.scenes import CREATED, LITTER, consume, content, layers, litter, save, version_of
from tests.servers.nfslike import Mount

ANY = ("EIO", "ESTALE")
FULL = ("ENOSPC", "EDQUOT")
FAULTS: dict[str, tuple[str, ...]] = {
    "LOOKUP": (*ANY, "EACCES"),
    "GETATTR": ANY,
    "SETATTR": (*ANY, "EPERM", "EDQUOT"),
    "OPEN": (*ANY, "EACCES"),
    "READ": ANY,
    "WRITE": ("EIO", *FULL),
    "CREATE": (*ANY, *FULL, "EACCES"),
    "MKDIR": (*ANY, *FULL, "lost"),
    "UNLINK": (*ANY, "lost"),
    "RMDIR": (*ANY, "lost"),
    "RENAME": (*ANY, *FULL, "lost"),
    "LINK": (*ANY, *FULL, "EPERM", "lost"),
    "FSYNC": ("EIO", *FULL),
    "FLUSH": ("EIO", *FULL),
    "OPENDIR": ANY,
    "READDIR": ANY,
    "FSYNCDIR": ("EIO", "ESTALE"),
    "SETLK": (*ANY, "ENOLCK", "EAGAIN"),
    "RELEASE": ("EIO",),
}
"""What may go wrong with an operation; what fails to be written (WRITE) comes out later. ``lost``: the reply
was, so that the operation is repeated."""
OTHERS = {"thesis.txt": b"not ours", ".notes": b"nor this"}
"""Files of others, in each folder of a scene."""
SPARE = "spare"
"""A copy of ``m.h5`` in folders that have one: what another client puts in its place."""
DEEDS: dict[str, list[list[str]]] = {
    "slot removed": [["unlink", ".m.h5.0.tmp"]],
    "partial removed": [["unlink", "m.h5.partial"]],
    "file removed": [["unlink", "m.h5"]],
    "file replaced": [["replace", SPARE, "m.h5"]],
    "round removed": [["unlink", "run/rounds/00000001.h5"], ["unlink", "run/rounds/00000001/a.h5"]],
    "cache cleared": [["empty", "cache"]],
}
"""What another client may do meanwhile."""
MEANWHILE = Exception("another client")
"""In place of the error of a scene in which another client took part."""


@dataclass(frozen=True)
class Scene:
    """One thing that a program does."""

    name: str
    prepare: Callable[[Path], object]
    """Makes what is there before, in the backing folder."""
    act: Callable[[Path], object]
    """Does it through the mount."""
    judge: Callable[[Path, Exception | None], str]
    """Looks at the backing folder, asserts, and returns "old" or "new"."""
    others: tuple[str, ...] = ()
    """What another client does at each operation in turn, by name in `DEEDS`."""


def nothing(folder: Path) -> None:
    """Prepare nothing."""


def whole(path: Path) -> str:
    """Tell which version an archive is; version 2 is the new one."""
    if not path.exists():
        return "old"
    return {1: "old", 2: "new"}[version_of(path)]


def judge_file(folder: Path, error: Exception | None) -> str:
    """Look at a save of ``m.h5``."""
    found = whole(folder / "m.h5")
    assert error is not None or found == "new"
    left = [name for name in litter(folder, "m.h5", SPARE, *OTHERS) if not LITTER.fullmatch(name)]
    assert not left, left
    if error is None:
        # what it could not remove another save of this name will
        assert len(litter(folder, "m.h5", SPARE, *OTHERS)) <= 1
    return found


def judge_refused(folder: Path, error: Exception | None) -> str:
    """Look at a save whose name is taken."""
    assert error is not None
    assert judge_file(folder, error) == "old"
    return "old"


def create(path: Path) -> None:
    """Write version 2 array by array."""
    with archive.create(path) as writer:
        for key, array in content(2).items():
            writer.add("model", key, array)


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an archive that verifies."""
    assert archive.verify(path).ok
    (record,) = archive.load(path).parameters_records.values()
    return {key: array.numpy() for key, array in record.items()}


def judge_created(folder: Path, error: Exception | None) -> str:
    """Look at a file that was written array by array."""
    path = folder / "m.h5"
    if not path.exists():
        assert error is not None
        return "old"
    assert arrays(path)["w"][0] == 2
    return "new"


def judge_consumed(folder: Path, error: Exception | None) -> str:
    """Look at a consuming save: what arrived is in the file, or recovered of the partial file."""
    path = folder / "m.h5"
    if path.exists():
        found = arrays(path)
        assert list(found) == list(layers())
        return "new"
    assert error is not None
    partial = folder / "m.h5.partial"
    if isinstance(error, archive.errors.PartialSaveError):
        assert error.partial is not None
        assert partial.exists()
    if partial.exists():
        with contextlib.suppress(archive.ArchiveError):  # what arrived may not have reached the server
            judge_recovered(archive.recover(partial))
    return "old"


def judge_recovered(records: Any) -> int:
    """Check what was recovered: a beginning of what was to be saved."""
    record = records.parameters_records.get("model", {})
    for key, array in record.items():
        assert np.array_equal(array.numpy(), layers()[key]), key
    assert list(record) == list(layers())[: len(record)]
    return len(record)


def fail_to_consume(folder: Path) -> None:
    """Leave a partial file of six arrays and its journal, as a kill does."""
    aside = folder / "aside"
    aside.mkdir()

    def pairs() -> Iterator[tuple[str, Any]]:
        for key, array in layers().items():
            if key == "layer6":
                for path in folder.glob("m.h5.partial*"):
                    shutil.copy(path, aside)
            yield key, array

    archive.save(pairs(), folder / "m.h5", keep_input=False, created=CREATED)
    (folder / "m.h5").unlink()
    for path in aside.iterdir():
        path.rename(folder / path.name)
    aside.rmdir()
    assert len(list(folder.glob("m.h5.partial*"))) == 2


def recover(folder: Path) -> None:
    """Recover six arrays."""
    assert judge_recovered(archive.recover(folder / "m.h5.partial")) == 6


def judge_partial(folder: Path, error: Exception | None) -> str:
    """Recover again, without faults: nothing is lost by a failure."""
    partial = folder / "m.h5.partial"
    if error is not MEANWHILE or partial.exists():
        assert judge_recovered(archive.recover(partial)) == 6
    return "old" if error else "new"


def save_round(store: archive.CheckpointStore, number: int) -> None:
    """Save a round with a client."""
    store.save({"w": np.full(300, number)}, number, client="a")
    store.save({"w": np.full(300, number)}, number, metrics={"loss": 1 / number})


def prepare_store(folder: Path) -> None:
    """Make a store of three rounds."""
    store = archive.CheckpointStore(folder / "run")
    for number in (1, 2, 3):
        save_round(store, number)


def judge_store(folder: Path, error: Exception | None) -> str:
    """Every round that is there verifies, with its client, and is what was saved."""
    store = archive.CheckpointStore(folder / "run")
    numbers = store.rounds()
    for number in numbers:
        assert store.verify(number), (number, store.verify(number))
        assert store.clients(number) == ["a"]
        for client in (None, "a"):
            with store.open(number, client) as handle:
                assert handle["w"].numpy().tolist() == [number] * 300
    if numbers:  # rows of rounds that retention removed stay, without a file
        assert store.history(clients=True)["kept"].tolist().count(True) == 2 * len(numbers)
    store.gc(0)
    files = {str(path.relative_to(folder / "run/rounds")) for path in folder.rglob("run/rounds/**/*.h5")}
    assert files == {f"{number:08d}{end}" for number in numbers for end in (".h5", "/a.h5")}
    return "new" if error is None else "old"


def judge_pruned(folder: Path, error: Exception | None) -> str:
    """The newest round always stays."""
    numbers = archive.CheckpointStore(folder / "run").rounds()
    assert 3 in numbers  # the newest that could be read stays too
    return judge_store(folder, error)


def judge_saved(folder: Path, error: Exception | None) -> str:
    """The newest of the old rounds, or the new one; all, where none could be verified before the removal."""
    numbers = archive.CheckpointStore(folder / "run").rounds()
    assert 3 in numbers or 4 in numbers
    assert error is not None or numbers in ([3, 4], [1, 2, 3, 4])
    judge_store(folder, error)
    return "new" if 4 in numbers else "old"


def read_store(folder: Path) -> None:
    """Read everything of a store."""
    store = archive.CheckpointStore(folder / "run", best_by="loss")
    assert store.rounds()[-2:] == [2, 3]
    for which in ("latest", "best"):
        with store.open(which) as handle:
            assert handle["w"].numpy().tolist() == [3] * 300
    with store.open(2, "a") as handle:
        assert handle["w"].numpy().tolist() == [2] * 300
    assert store.history()["round"].tolist()[-2:] == [2, 3]
    assert store.history(clients=True)["round"].tolist()[-4:] == [2, 2, 3, 3]
    if failures := store.verify(2).failures:  # what cannot be read is reported, not raised
        raise archive.errors.StorageError("; ".join(failures))


def save_next(folder: Path) -> None:
    """Save round 4 and keep two."""
    save_round(archive.CheckpointStore(folder / "run", keep_last=2), 4)


def prune(folder: Path) -> None:
    """Keep one round."""
    archive.CheckpointStore(folder / "run", keep_last=1).prune()


def collect(folder: Path) -> None:
    """Remove what killed runs left."""
    archive.CheckpointStore(folder / "run").gc(0)


def judge_unchanged(folder: Path, error: Exception | None) -> str:
    """Three rounds, as before, but for one that another client removed."""
    numbers = archive.CheckpointStore(folder / "run").rounds()
    assert numbers == [1, 2, 3] or (numbers == [2, 3] and error is MEANWHILE)
    return judge_store(folder, error)


def litter_store(folder: Path) -> None:
    """Make a store in which a killed run left a client file and a temporary file."""
    prepare_store(folder)
    archive.CheckpointStore(folder / "run").save({"w": np.zeros(9)}, 7, client="dead")
    shutil.copy(folder / "run/rounds/00000001.h5", folder / "run/rounds/.00000001.h5.0.tmp")


def prepare_mean(folder: Path) -> None:
    """Make three files to be averaged, and an old mean."""
    save(folder / "m.h5", 1)
    for number in (1, 2, 3):
        archive.save({"w": np.full(300, float(number))}, folder / f"c{number}.h5")


def mean(folder: Path) -> None:
    """Average three files."""
    archive.mean([folder / f"c{number}.h5" for number in (1, 2, 3)], out=folder / "m.h5")


def judge_mean(folder: Path, error: Exception | None) -> str:
    """The old file, or the mean of 2."""
    if error is MEANWHILE and not (folder / "m.h5").exists():
        return "old"
    found = arrays(folder / "m.h5")
    assert (found["w"] == (1 if "b" in found else 2)).all()
    assert error is not None or "b" not in found
    for number in (1, 2, 3):
        assert (arrays(folder / f"c{number}.h5")["w"] == number).all()
    return "old" if "b" in found else "new"


def read(folder: Path) -> None:
    """Open, load and verify."""
    assert version_of(folder / "m.h5") == 2
    assert archive.verify(folder / "m.h5").ok
    assert archive.load(folder / "m.h5").parameters_records["model"]["w"].numpy()[0] == 2
    assert len(archive.table(str(folder / "*.h5"))["path"]) == 1


def read_cached(folder: Path) -> None:
    """Read a remote archive twice, kept in a cache on the mount."""
    for _ in range(2):
        with archive.open("folder://model.h5", cache=folder / "cache") as handle:
            assert np.array_equal(handle["w"].numpy(), np.arange(30_000.0))
    from archive.storage.remote.cachefolder import clear_cache, list_cache

    list_cache(str(folder / "cache"))
    if folder.name.endswith("0"):
        clear_cache(str(folder / "cache"))


def judge_cache(folder: Path, error: Exception | None) -> str:
    """What is kept gives the right bytes without faults."""
    with archive.open("folder://model.h5", cache=folder / "cache") as handle:
        assert np.array_equal(handle["w"].numpy(), np.arange(30_000.0))
    return "old" if error else "new"


def old(folder: Path) -> None:
    """Save version 1."""
    save(folder / "m.h5", 1)


FILE = ("slot removed", "file removed", "file replaced")
ROUND = ("round removed",)
SCENES = [
    Scene("save", old, lambda f: save(f / "m.h5", 2), judge_file, FILE),
    Scene("save new", nothing, lambda f: save(f / "m.h5", 2), judge_file, FILE[:1]),
    Scene("not durable", old, lambda f: save(f / "m.h5", 2, durable=False), judge_file, FILE),
    Scene("exclusive", nothing, lambda f: save(f / "m.h5", 2, overwrite=False), judge_file, FILE[:2]),
    Scene("taken", old, lambda f: save(f / "m.h5", 2, overwrite=False), judge_refused),
    Scene("create", nothing, lambda f: create(f / "m.h5"), judge_created, FILE[:1]),
    Scene("consume", nothing, lambda f: consume(f / "m.h5"), judge_consumed, ("partial removed",)),
    Scene("recover", fail_to_consume, recover, judge_partial, ("partial removed",)),
    Scene("round", prepare_store, save_next, judge_saved, ROUND),
    Scene("prune", prepare_store, prune, judge_pruned, ROUND),
    Scene("gc", litter_store, collect, judge_unchanged, ROUND),
    Scene("store", prepare_store, read_store, judge_unchanged, ROUND),
    Scene("mean", prepare_mean, mean, judge_mean, FILE),
    Scene("read", lambda f: save(f / "m.h5", 2), read, lambda f, _: whole(f / "m.h5"), FILE[2:]),
    Scene("cache", nothing, read_cached, judge_cache, ("cache cleared",)),
]


class Sweep:
    """Runs one scene with every fault at each of its operations, and counts how they end."""

    def __init__(self, scene: Scene, backing: Path, mount: Mount) -> None:
        self.scene, self.backing, self.mount = scene, backing, mount
        self._prepared = backing / f"{scene.name}-prepared"
        self.count = 0
        self.ends: dict[str, int] = {}
        self.failures: list[str] = []

    def run(self) -> None:
        """Run all cases."""
        self._prepared.mkdir()
        for other, data in OTHERS.items():
            (self._prepared / other).write_bytes(data)
        self.scene.prepare(self._prepared)
        seen = self._case("no fault", [])
        if self.failures:
            return
        for op in sorted(set(seen)):
            for at in range(1, seen.count(op) + 1):
                for name in FAULTS.get(op, ()):
                    fault = {"lost": True} if name == "lost" else {"error": name}
                    self._case(f"{op} {at} {name}", [{"op": op, "at": at, **fault}])
                    if name in ("EIO", "ENOSPC"):
                        self._case(f"{op} {at}+ {name}", [{"op": op, "at": at, "on": True, **fault}])
                for deed in self.scene.others:
                    self._case(f"{op} {at} {deed}", [{"op": op, "at": at, "before": DEEDS[deed]}])

    def _case(self, title: str, plan: list[dict[str, Any]]) -> list[str]:
        self.count += 1
        name = f"{self.scene.name.replace(' ', '-')}-{self.count}"
        there, here = self.backing / name, self.mount.folder / name
        shutil.copytree(self._prepared, there)
        meanwhile = any("before" in fault for fault in plan)
        if meanwhile and (there / "m.h5").exists():
            shutil.copy(there / "m.h5", there / SPARE)
        self.mount.reset(*(_placed(fault, name) for fault in plan))
        end = ""
        error: Exception | None = None
        try:
            self.scene.act(here)
        except archive.ArchiveError as failed:
            error, end = failed.with_traceback(None), type(failed).__name__
        except (OSError, ValueError, RuntimeError, AssertionError, EOFError, TypeError) as failed:
            self.failures.append(f"{self.scene.name}: {title}: untyped {failed!r}")
            error = failed
        seen, fired = self.mount.seen(), self.mount.fired()
        self.mount.reset()
        try:
            found = self.scene.judge(there, MEANWHILE if meanwhile else error)
            end = (
                f"{'meanwhile' if meanwhile else found} {end}".strip() if fired or not plan else "not reached"
            )
            for other, data in OTHERS.items():
                assert (there / other).read_bytes() == data
        except (AssertionError, archive.ArchiveError, OSError, KeyError, ValueError) as failed:
            self.failures.append(f"{self.scene.name}: {title}: ended in {error!r}, then {failed!r}")
        self.ends[end] = self.ends.get(end, 0) + 1
        if error is not None and not plan and self.scene.judge is not judge_refused:
            self.failures.append(f"{self.scene.name}: {title}: {error!r}")
        shutil.rmtree(there)
        return seen


def _placed(fault: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return a fault with what another client does put into the folder of a case."""
    deeds = [[what, *(f"{folder}/{path}" for path in paths)] for what, *paths in fault.get("before", ())]
    return {**fault, "before": deeds}
