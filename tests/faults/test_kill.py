"""L1 of FAULTS.md: a save killed at every system call leaves the old or the new archive, complete."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import archive
from tests.faults.conftest import Forge
from tests.faults.scenes import LARGE, LITTER, SMALL, bytes_of, litter, save, save_base, version_of

CALL = re.compile(r"^(\d+) +([a-z_0-9]+)\(", re.MULTILINE)
NEVER_KILLED_AT = frozenset({"exit_group", "exit", "restart_syscall", "read", "fcntl"})


@dataclass(frozen=True)
class Workload:
    """One way of saving."""

    name: str
    old: bool
    """Whether an older archive is there."""
    size: int = SMALL
    options: dict[str, Any] = field(default_factory=dict)
    stale: tuple[int, ...] = ()
    """Slots in which killed writers left temporary files."""

    @property
    def stale_names(self) -> list[str]:
        """Names of those files."""
        return [f".model.h5.{slot}.tmp" for slot in self.stale]


WORKLOADS = (
    Workload("first", old=False),
    Workload("overwrite", old=True),
    Workload("exclusive", old=False, options={"overwrite": False}),
    Workload("not-durable", old=True, options={"durable": False}),
    Workload("after-kills", old=True, stale=(0, 1, 5)),
    Workload("overwrite-20MB", old=True, size=LARGE),
    Workload("edit", old=True, options={"edit": True}),
    Workload("edit-20MB", old=True, size=LARGE, options={"edit": True}),
)
QUICK = ("overwrite", "exclusive")
"""Those whose every call is tried in the quick tier; the others are their twins."""


def calls_of(forge: Forge, workload: Workload, folder: Path) -> Counter[str]:
    """Return how often one thread of an undisturbed save makes each call."""
    path = prepare(workload, folder)
    answer = forge(path, 2, workload.size, options=workload.options, strace=[], want_log=True)
    assert answer["error"] is None
    most: Counter[str] = Counter()
    for (_, name), count in Counter(CALL.findall(answer["log"])).items():
        most[name] = max(most[name], count)
    return Counter({name: count for name, count in most.items() if name not in NEVER_KILLED_AT})


def prepare(workload: Workload, folder: Path) -> Path:
    """Return the path to save to, in a state where the old archive is there or not."""
    path = folder / "model.h5"
    for name in litter(folder):
        (folder / name).unlink()
    if workload.old:
        save(path, 1, durable=False)
    if "edit" in workload.options and workload.size > SMALL:
        save_base(path, 1, workload.size)  # its large array is copied by the system
    for name in workload.stale_names:
        (folder / name).write_bytes(bytes(5000))  # reserved, and not written yet
    return path


def check_outcome(path: Path, workload: Workload, new: bytes) -> str:
    """Return what a kill left, after checking that it is allowed and that the next save cleans up."""
    left = litter(path.parent, path.name)
    assert all(LITTER.fullmatch(name) for name in left), left
    assert len(left) <= max(1, len(workload.stale))
    if not path.exists():
        assert not workload.old
        outcome = "nothing"
    elif path.read_bytes() == new:
        outcome = "new"
    else:
        assert workload.old
        assert version_of(path) == 1
        outcome = "old"
    if outcome == "new":
        with archive.open(path) as handle:
            assert handle.verify().ok
    save(path, 3, durable=False)
    assert version_of(path) == 3
    assert litter(path.parent, path.name) == []
    return outcome + (" + litter" if left else "")


def kill_everywhere(forge: Forge, workload: Workload, folder: Path) -> Counter[str]:
    """Kill a save before each of its calls in turn and count what was left."""
    new = bytes_of(2, folder, workload.size)
    outcomes: Counter[str] = Counter()
    for name, count in calls_of(forge, workload, folder).items():
        for k in range(1, count + 1):
            path = prepare(workload, folder)
            inject = [f"--trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={k}"]
            answer = forge(path, 2, workload.size, options=workload.options, strace=inject)
            assert answer["signal"] in (0, 9), answer
            outcome = check_outcome(path, workload, new)
            if not answer["signal"]:
                # calls of threads vary from run to run: this one was not made
                assert outcome == "new"
                outcome = "not reached"
            outcomes[outcome] += 1
    return outcomes


@pytest.mark.must("FILE-6")
@pytest.mark.tools
@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(workload, marks=() if workload.name in QUICK else pytest.mark.slow)
        for workload in WORKLOADS
    ],
    ids=lambda workload: workload.name,
)
def test_kill_at_every_call(
    forge: Forge, tmp_path: Path, workload: Workload, figures: Callable[[str], None]
) -> None:
    """L1: every system call of a save, memory and thread calls included."""
    outcomes = kill_everywhere(forge, workload, tmp_path)
    figures(f"L1 {workload.name}: {sum(outcomes.values())} kills, {dict(outcomes)}")
    assert outcomes["new"] > 0
    assert outcomes["old + litter"] + outcomes["nothing + litter"] > 0
