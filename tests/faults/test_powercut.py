"""L2 of FAULTS.md: the power fails; what was synced is there, of the rest anything may be.

A real save is recorded with all its bytes by strace, and the state of the disk is made for every prefix
of its calls and random subsets of what was not synced then. Two careless ways of saving are
recorded and replayed likewise and must fail, or the harness would prove nothing.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Forge
from tests.faults.scenes import bytes_of, save

SECTOR = 512
ELEMENTS = 300
TRACE = "openat,ftruncate,fallocate,pwritev2,pwritev,pwrite64,fsync,rename,link,unlink,close"
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
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
    strace = ["-xx", "-s", "10000000", f"--trace={TRACE}"]
    answer = forge(path, 2, ELEMENTS, options=options, strace=strace, want_log=True)
    assert answer["error"] is None
    assert path.read_bytes() == bytes_of(2, folder, ELEMENTS)
    return list(_steps(answer["log"]))


def _steps(log: str) -> Iterator[Step]:
    inodes: dict[str, int] = {}  # by descriptor; 0 is the old archive's
    folders: set[str] = set()
    made = 0
    for line in log.splitlines():
        match = CALL.match(line)
        if match is None or match[3].startswith("-"):
            continue
        call, text, result = match.groups()
        texts = [bytes.fromhex(found.replace("\\x", "")) for found in STRING.findall(text)]
        names = tuple(Path(name.decode()).name for name in texts) if call[:2] != "pw" else ()
        fd = text.split(",")[0].split(")")[0]
        if call == "openat" and "O_DIRECTORY" in text:
            folders.add(result)
        elif call == "openat" and "O_TRUNC" in text:
            inodes[result] = 0
            yield Step("size", 0, 0)
        elif call == "openat" and "O_CREAT" in text:
            made += 1
            inodes[result] = made
            yield Step("create", made, names=names)
        elif call in ("rename", "link", "unlink"):
            yield Step(call, names=names)
        elif call == "fsync" and fd in folders:
            yield Step("sync_folder")
        elif fd in inodes and call == "fsync":
            yield Step("sync", inodes[fd])
        elif fd in inodes and call == "ftruncate":
            yield Step("size", inodes[fd], int(text.split(",")[1]))
        elif fd in inodes and call == "fallocate":
            yield Step("size", inodes[fd], int(text.split(",")[3]))
        elif fd in inodes and call.startswith("pw"):
            offset = int(text.split(",")[-1 if call == "pwrite64" else -2 if call == "pwritev2" else -1])
            data = b"".join(texts)
            assert len(data) == int(result)
            yield Step("write", inodes[fd], offset, data)
        elif call == "close":
            inodes.pop(fd, None)
            folders.discard(fd)


@dataclass(slots=True)
class Disk:
    """What is on the disk after a power cut."""

    names: dict[str, int]
    files: dict[int, bytearray] = field(default_factory=dict)

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


def after_power_cut(steps: list[Step], old: bytes, chance: random.Random) -> bytes | None:
    """Return the target's bytes after all of ``steps``, of which the unsynced ones may be lost.

    Names are kept in their order (a journal), so a prefix of them is there; sizes and sectors are not.
    """
    disk = Disk({"model.h5": 0}, {0: bytearray(old)})
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
    inode = disk.names.get("model.h5")
    return None if inode is None else bytes(disk.files.get(inode, b""))


def cut_everywhere(steps: list[Step], old: bytes, new: bytes, each: int) -> Counter[str]:
    """Cut the power after every step, ``each`` times over, and count what is found."""
    chance = random.Random(20260101)
    found: Counter[str] = Counter()
    for done in range(len(steps) + 1):
        for _ in range(each):
            state = after_power_cut(steps[:done], old, chance)
            outcome = (
                "new" if state == new else "old" if state == old else "none" if state is None else "torn"
            )
            found[outcome] += 1
            if done == len(steps):
                found[f"{outcome} after return"] += 1
    return found


@pytest.mark.parametrize(
    "each", [400, pytest.param(8000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
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
    strace = ["-xx", "-s", "10000000", f"--trace={TRACE}"]
    path = tmp_path / "elsewhere" / "fresh.h5"
    answer = forge(path, 2, ELEMENTS, options={"overwrite": False}, strace=strace, want_log=True)
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
    assert "link" in [step.kind for step in steps]
    found = cut_everywhere(steps, b"nothing", new, each)
    figures(f"L2 exclusive: {len(steps)} steps, {sum(found.values()) - each} states, {dict(found)}")
    assert set(found) == {"old", "new", "new after return"}
