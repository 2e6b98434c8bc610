"""L2 of FAULTS.md: the power fails; what was synced is there, of the rest anything may be.

A real save is recorded with all its bytes by strace, and the state of the disk is made for every prefix
of its calls and random subsets of what was not synced then. Two careless ways of saving are
recorded and replayed likewise and must fail, or the harness would prove nothing.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Forge
from tests.faults.scenes import bytes_of, recovered, save

SECTOR = 512
ELEMENTS = 300
RESERVED = 1 << 16
"""No file of these saves is longer; a stream reserves 64 MiB ahead, which would be copied for every state."""
TRACE = "openat,ftruncate,fallocate,pwritev2,pwritev,pwrite64,write,fsync,rename,renameat2,link,unlink,close"
STRACE = ["-xx", "-s", "10000000", f"--trace={TRACE}"]
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
OLD = {"model.h5": 0}
PARTIAL = "model.h5.partial"
JOURNAL = f"{PARTIAL}.journal"
pytestmark = pytest.mark.tools


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a save that changes the disk."""

    kind: str
    """create, size, write, sync, rename, link, unlink, sync_folder"""
    inode: int = -1
    offset: int = 0
    data: bytes = b""
    names: tuple[str, ...] = ()


def recorded(forge: Forge, folder: Path, **options: Any) -> list[Step]:
    """Save version 2 over version 1 for real and return what it did to the disk."""
    path = folder / "model.h5"
    save(path, 1, ELEMENTS)
    (folder / "model.h5.ready").write_bytes(bytes_of(2, folder, ELEMENTS))
    answer = forge(path, 2, ELEMENTS, options=options, strace=STRACE, want_log=True)
    assert answer["error"] is None
    assert path.read_bytes() == bytes_of(2, folder, ELEMENTS)
    return list(_steps(answer["log"]))


def _steps(log: str, there: Mapping[str, int] = OLD) -> Iterator[Step]:
    """Yield what a log of strace says was done to files: those that were there, by number, and new ones."""
    inodes: dict[str, int] = {}  # by descriptor
    names = dict(there)
    lengths: Counter[int] = Counter()
    folders: set[str] = set()
    made = max(names.values())
    for line in _whole_lines(log):
        match = CALL.match(line)
        if match is None or match[3].startswith("-"):
            continue
        call, text, result = match.groups()
        texts = [bytes.fromhex(found.replace("\\x", "")) for found in STRING.findall(text)]
        paths = () if "write" in call else tuple(Path(name.decode()).name for name in texts)
        fd = text.split(",")[0].split(")")[0]
        if call == "openat" and "O_DIRECTORY" in text:
            folders.add(result)
        elif call == "openat" and "O_CREAT" in text and paths[0] not in names:
            made += 1
            inodes[result] = names[paths[0]] = made
            yield Step("create", made, names=paths)
        elif call == "openat" and paths[0] in names:
            inodes[result] = names[paths[0]]
            if "O_TRUNC" in text:
                yield Step("size", inodes[result], 0)
        elif call in ("rename", "renameat2", "link", "unlink"):
            inode = names.pop(paths[0]) if call != "link" else names[paths[0]]
            names.update(dict.fromkeys(paths[1:], inode))
            yield Step("rename" if call == "renameat2" else call, names=paths)
        elif call == "fsync" and fd in folders:
            yield Step("sync_folder")
        elif fd in inodes and call == "fsync":
            yield Step("sync", inodes[fd])
        elif fd in inodes and call == "ftruncate":
            yield Step("size", inodes[fd], int(text.split(",")[1]))
        elif fd in inodes and call == "fallocate":
            yield Step("size", inodes[fd], min(int(text.split(",")[3]), RESERVED))
        elif fd in inodes and "write" in call:
            place = {"write": None, "pwritev2": -2}.get(call, -1)
            offset = lengths[inodes[fd]] if place is None else int(text.split(",")[place])
            data = b"".join(texts)
            assert len(data) == int(result)
            lengths[inodes[fd]] = offset + len(data)
            yield Step("write", inodes[fd], offset, data)
        elif call == "close":
            inodes.pop(fd, None)
            folders.discard(fd)


def _whole_lines(log: str) -> Iterator[str]:
    """Yield the lines of a log, calls that another thread interrupted put together."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        thread = line.partition(" ")[0]
        if line.endswith(" <unfinished ...>"):
            begun[thread] = line.removesuffix(" <unfinished ...>")
        elif "<... " in line:
            yield begun.pop(thread) + line.partition(" resumed>")[2]
        else:
            yield line


@dataclass(slots=True)
class Disk:
    """What is on the disk after a power cut."""

    names: dict[str, int]
    files: dict[int, bytearray] = field(default_factory=dict)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, None where there is none."""
        inode = self.names.get(name)
        return None if inode is None else bytes(self.files.get(inode, b""))

    def apply(self, step: Step) -> None:
        """Let a step reach the disk."""
        file = self.files.setdefault(step.inode, bytearray())
        if step.kind == "create":
            self.names[step.names[0]] = step.inode
        elif step.kind == "size":
            file[:] = file[: step.offset].ljust(step.offset, b"\0")
        elif step.kind == "write":
            end = step.offset + len(step.data)
            if len(file) < end:
                file.extend(bytes(end - len(file)))
            file[step.offset : end] = step.data
        elif step.kind in ("rename", "link"):
            if step.names[0] in self.names:
                self.names[step.names[1]] = self.names[step.names[0]]
                if step.kind == "rename":
                    del self.names[step.names[0]]
        elif step.kind == "unlink":
            self.names.pop(step.names[0], None)


def after_power_cut(steps: list[Step], before: Disk, chance: random.Random) -> Disk:
    """Return the disk after all of ``steps``, of which the unsynced ones may be lost.

    Names are kept in their order (a journal), so a prefix of them is there; sizes and sectors are not.
    """
    disk = Disk(dict(before.names), {inode: bytearray(data) for inode, data in before.files.items()})
    is_name = [step.kind in ("create", "rename", "link", "unlink") for step in steps]
    synced_names = max((n for n, step in enumerate(steps) if step.kind == "sync_folder"), default=-1)
    unsynced = [n for n, named in enumerate(is_name) if named and n > synced_names]
    kept = chance.randint(0, len(unsynced))
    lost_names = set(unsynced[kept:])
    style = chance.choice(("all", "none", "half", "few"))
    odds = {"all": 1.0, "none": 0.0, "half": 0.5, "few": 0.1}[style]
    for number, step in enumerate(steps):
        if is_name[number]:
            if number not in lost_names:
                disk.apply(step)
            continue
        durable = any(later.kind == "sync" and later.inode == step.inode for later in steps[number + 1 :])
        if step.kind == "write" and not durable:
            for start in range(0, len(step.data), SECTOR):
                if chance.random() < odds:
                    disk.apply(
                        Step("write", step.inode, step.offset + start, step.data[start : start + SECTOR])
                    )
        elif durable or chance.random() < odds:
            disk.apply(step)
    return disk


def cut_everywhere(steps: list[Step], old: bytes, new: bytes, each: int) -> Counter[str]:
    """Cut the power after every step, ``each`` times over, and count what is found."""
    chance = random.Random(20260101)
    found: Counter[str] = Counter()
    for done in range(len(steps) + 1):
        for _ in range(each):
            state = after_power_cut(steps[:done], Disk(dict(OLD), {0: bytearray(old)}), chance).read(
                "model.h5"
            )
            outcome = (
                "new" if state == new else "old" if state == old else "none" if state is None else "torn"
            )
            found[outcome] += 1
            if done == len(steps):
                found[f"{outcome} after return"] += 1
    return found


@pytest.mark.parametrize("each", [400, pytest.param(8000, marks=pytest.mark.slow)])
def test_power_cut(forge: Forge, tmp_path: Path, each: int, figures: Callable[[str], None]) -> None:
    """L2: NEW once save returned, else OLD or NEW; in place and without fsync, archives are lost."""
    old, new = bytes_of(1, tmp_path, ELEMENTS), bytes_of(2, tmp_path, ELEMENTS)
    steps = recorded(forge, tmp_path)
    kinds = [step.kind for step in steps]
    assert kinds[-3:] == ["sync", "rename", "sync_folder"]
    found = cut_everywhere(steps, old, new, each)
    figures(f"L2 save: {len(steps)} steps, {sum(found.values()) - each} states, {dict(found)}")
    assert set(found) == {"old", "new", "new after return"}
    for name, options in (("rename without fsync", {"durable": False}), ("in place", {"in_place": True})):
        control = cut_everywhere(recorded(forge, tmp_path, **options), old, new, each)
        figures(f"L2 negative control, {name}: {dict(control)}")
        assert control["torn"] > each / 10


@pytest.mark.parametrize("each", [400])
def test_power_cut_exclusive(forge: Forge, tmp_path: Path, each: int, figures: Callable[[str], None]) -> None:
    """L2: an exclusive save: nothing or NEW under the name, NEW once it returned."""
    (tmp_path / "elsewhere").mkdir()
    new = bytes_of(2, tmp_path, ELEMENTS)
    path = tmp_path / "elsewhere" / "fresh.h5"
    answer = forge(path, 2, ELEMENTS, options={"overwrite": False}, strace=STRACE, want_log=True)
    assert answer["error"] is None
    steps = [
        Step(
            step.kind,
            step.inode,
            step.offset,
            step.data,
            tuple(n.replace("fresh", "model") for n in step.names),
        )
        for step in _steps(answer["log"])
    ]
    assert [step.kind for step in steps][-3:] == ["sync", "rename", "sync_folder"]
    found = cut_everywhere(steps, b"nothing", new, each)
    figures(f"L2 exclusive: {len(steps)} steps, {sum(found.values()) - each} states, {dict(found)}")
    assert set(found) == {"old", "new", "new after return"}


def recorded_failure(forge: Forge, folder: Path, arrived: int) -> list[Step]:
    """Fail in a consuming save over version 1 for real, and return what was done to the disk."""
    save(folder / "model.h5", 1, ELEMENTS)
    answer = forge(folder / "model.h5", 2, options={"consume": arrived}, strace=STRACE, want_log=True)
    assert answer["error"] == "PartialSaveError", answer
    return list(_steps(answer["log"]))


def killed(steps: list[Step]) -> Disk:
    """Return the disk as a kill leaves it just before the journal of a failed save was removed."""
    disk = Disk(dict(OLD), {0: bytearray(b"old")})
    for step in steps[: next(n for n, step in enumerate(steps) if step.kind == "unlink")]:
        disk.apply(step)
    return disk


def recovered_from(disk: Disk, folder: Path) -> int | None:
    """Recover what a power cut left; return how many arrays came back, each compared, None for an error."""
    partial = folder / PARTIAL
    for name in (PARTIAL, JOURNAL):
        (folder / name).unlink(missing_ok=True)
        data = disk.read(name)
        if data is not None:
            (folder / name).write_bytes(data)
    return recovered(partial)


def lost_by_cuts(steps: list[Step], before: Disk, first: int, each: int, folder: Path) -> Counter[str]:
    """Cut the power after every step from ``first`` on; count how many arrays come back."""
    chance = random.Random(20260102)
    found: Counter[str] = Counter()
    for done in range(first, len(steps) + 1):
        for _ in range(each):
            arrays = recovered_from(after_power_cut(steps[:done], before, chance), folder)
            found["error" if arrays is None else f"{arrays} arrays"] += 1
    return found


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder whose syncs cost nothing: thousands of states are recovered there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("each", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_power_cut_after_a_failed_consuming_save(
    forge: Forge, tmp_path: Path, quick_disk: Path, each: int, figures: Callable[[str], None]
) -> None:
    """P7: what had arrived is there when the error is raised, and since an archive is made of it."""
    steps = recorded_failure(forge, tmp_path, 7)
    before = Disk(dict(OLD), {0: bytearray((tmp_path / "model.h5").read_bytes())})
    returned = lost_by_cuts(steps, before, len(steps), 10 * each, quick_disk)
    figures(f"P7 failed save: {len(steps)} steps, after return {dict(returned)}")
    assert set(returned) == {"7 arrays"}
    kinds = [step.kind for step in steps]
    assert kinds[-4:] == ["size", "sync", "unlink", "sync_folder"]
    # partial file, journal and their names are synced before the tail is written
    sealing = max(n for n, kind in enumerate(kinds[:-4]) if kind == "sync_folder") + 1
    assert kinds[sealing - 3 : -4] == ["sync", "sync", "sync_folder", "write", "write"]
    found = lost_by_cuts(steps, before, sealing, each, quick_disk)
    earlier = lost_by_cuts(steps[:sealing], before, 0, each, quick_disk)
    figures(f"P7 failed save: sealing {dict(found)}, before that {dict(earlier)}")
    assert set(found) == {"7 arrays"}


@pytest.mark.parametrize("each", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_power_cut_while_recovering(
    forge: Forge, tmp_path: Path, quick_disk: Path, each: int, figures: Callable[[str], None]
) -> None:
    """P7: whatever a cut leaves of a first recover, a second one brings everything back."""
    before = killed(recorded_failure(forge, tmp_path, 7))
    for name in (PARTIAL, JOURNAL):
        (tmp_path / name).write_bytes(before.read(name) or b"")
    data = before.files[before.names[PARTIAL]]
    data[-300:] = bytes(300)  # no footer yet
    (tmp_path / PARTIAL).write_bytes(data)
    answer = forge(tmp_path / PARTIAL, 2, options={"recover": True}, strace=STRACE, want_log=True)
    assert answer["error"] is None, answer
    steps = list(_steps(answer["log"], before.names))
    assert "write" in [step.kind for step in steps]
    found = lost_by_cuts(steps, before, 0, each, quick_disk)
    figures(f"P7 recover: {len(steps)} steps, {dict(found)}")
    assert set(found) == {"7 arrays"}


@pytest.mark.parametrize("each", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_power_cut_in_a_consuming_save(
    forge: Forge, tmp_path: Path, quick_disk: Path, each: int, figures: Callable[[str], None]
) -> None:
    """P1 and P7: OLD or NEW, NEW once it returned; from the first sync of all bytes on NEW or all arrays."""
    save(tmp_path / "model.h5", 1, ELEMENTS)
    old = (tmp_path / "model.h5").read_bytes()
    answer = forge(tmp_path / "model.h5", 2, options={"consume": None}, strace=STRACE, want_log=True)
    assert answer["error"] is None, answer
    new = (tmp_path / "model.h5").read_bytes()
    steps = list(_steps(answer["log"]))
    kinds = [step.kind for step in steps]
    assert kinds[-5:] == ["sync", "unlink", "sync", "rename", "sync_folder"]
    chance = random.Random(20260103)
    found: Counter[str] = Counter()
    for done in range(len(steps) + 1):
        for _ in range(each):
            disk = after_power_cut(steps[:done], Disk(dict(OLD), {0: bytearray(old)}), chance)
            state = disk.read("model.h5")
            outcome = "new" if state == new else "old" if state == old else "torn"
            if outcome != "new":
                outcome += f" and {recovered_from(disk, quick_disk)}"
            found[outcome] += 1
            if done > len(steps) - 5:
                assert outcome in ("new", "old and 10"), (done, outcome)
            assert done < len(steps) or outcome == "new"
    figures(f"P7 save: {len(steps)} steps, {dict(found)}")
    assert not any(outcome.startswith("torn") for outcome in found)
