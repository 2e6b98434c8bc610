"""L3 to L5 of FAULTS.md: the system refuses a call of a save; it raises, and the old archive is intact."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
import archive.tools
from archive.tuning import THREADS
from tests.descriptors import open_files
from tests.faults.conftest import Forge
from tests.faults.scenes import LARGE, SMALL, bytes_of, litter, save, save_base, version_of
from tests.faults.test_kill import WORKLOADS, Workload, calls_of, prepare

WRITING = frozenset({"ftruncate", "fallocate", "pwrite64", "fsync", "rename", "link", "openat"})
"""Calls whose failure a save may not survive silently."""
CALLS = WRITING | {"flock", "close", "unlink", "copy_file_range"}
ERRNOS = ("ENOSPC", "EIO", "EDQUOT", "EFBIG")
NO_PREALLOCATION = ("EOPNOTSUPP", "ENOSYS")


def check_failed(answer: dict[str, Any], path: Path, workload: Workload, new: bytes, name: str) -> str:
    """Return what a refused call led to, after checking that it is allowed."""
    assert answer["signal"] == 0, answer
    assert answer["exit"] == 0, answer
    present = path.read_bytes() if path.exists() else None
    if answer["error"] is None:
        assert present == new
        outcome = "saved all the same"
    else:
        assert answer["ours"], answer
        assert answer["error"] == "StorageError", answer
        assert answer["errno"], answer
        if present == new:
            assert "nothing was published" not in answer["text"], answer
            outcome = "raised, new"
        else:
            outcome = "raised, old"
            assert version_of(path) == 1 if workload.old else present is None
    # where the refused call was to remove what killed writers left, it stays until a next save
    left = [found for found in litter(path.parent, path.name) if found not in workload.stale_names]
    # a folder from which nothing can be unlinked keeps the temporary file, whatever we do
    assert name == "unlink" or left == [], answer
    # strace does not make the call it refuses: Linux itself closes also where it reports an error
    assert name == "close" or answer["fds"] == 0, answer
    return outcome


def refuse_everywhere(
    forge: Forge, workload: Workload, folder: Path, errnos: tuple[str, ...]
) -> Counter[str]:
    """Refuse every call once, and every call from the k-th on, with every errno."""
    new = bytes_of(2, folder, workload.size)
    outcomes: Counter[str] = Counter()
    for name, count in calls_of(forge, workload, folder).items():
        if name not in CALLS:
            continue
        for k in range(1, count + 1):
            for number in errnos:
                for when in (f"{k}", f"{k}+"):
                    path = prepare(workload, folder)
                    inject = [f"--trace={name}", "-e", f"inject={name}:error={number}:when={when}"]
                    answer = forge(
                        path, 2, workload.size, options=workload.options, strace=inject, want_log=True
                    )
                    outcome = check_failed(answer, path, workload, new, name)
                    if "(INJECTED)" not in answer["log"]:
                        # threads share the writes of a large file: one makes more today than the next time
                        assert k > 1, (name, when, number)
                        assert answer["error"] is None, (name, when, answer)
                        outcome = "not reached"
                    elif name in WRITING and (answer["error"] or not workload.stale):
                        assert answer["error"] is not None, (name, when, number)
                        assert answer["errno"] == getattr(errno, number), (name, when, answer)
                    outcomes[outcome] += 1
    return outcomes


@pytest.mark.tools
@pytest.mark.parametrize("workload", WORKLOADS[:3], ids=lambda workload: workload.name)
def test_one_errno_at_every_call(
    forge: Forge, tmp_path: Path, workload: Workload, figures: Callable[[str], None]
) -> None:
    """L3: every call refused, once and for ever."""
    outcomes = refuse_everywhere(forge, workload, tmp_path, ("EIO",))
    figures(f"L3 {workload.name}: {sum(outcomes.values())} refused calls, {dict(outcomes)}")


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_errno_at_every_call(
    forge: Forge, tmp_path: Path, workload: Workload, figures: Callable[[str], None]
) -> None:
    """L3: every call refused with every errno of full, broken and limited disks."""
    outcomes = refuse_everywhere(forge, workload, tmp_path, ERRNOS)
    figures(f"L3 {workload.name}: {sum(outcomes.values())} refused calls, {dict(outcomes)}")


@pytest.mark.tools
@pytest.mark.parametrize("number", ["EINTR", *NO_PREALLOCATION])
def test_harmless_errno(forge: Forge, tmp_path: Path, number: str) -> None:
    """L3: a call interrupted by a signal is made again; a disk that cannot reserve is written to anyway."""
    new = bytes_of(2, tmp_path)
    calls = calls_of(forge, WORKLOADS[1], tmp_path)
    names = ("fallocate",) if number in NO_PREALLOCATION else ("openat", "fallocate", "pwrite64", "fsync")
    for name in names:
        for k in range(1, calls[name] + 1):
            path = prepare(WORKLOADS[1], tmp_path)
            inject = [f"--trace={name}", "-e", f"inject={name}:error={number}:when={k}"]
            answer = forge(path, 2, strace=inject)
            assert answer["error"] is None, (name, answer)
            assert path.read_bytes() == new
            assert litter(tmp_path, path.name) == []


@pytest.mark.tools
@pytest.mark.parametrize("number", ["EACCES", "EPERM", "EISDIR"])
def test_slot_of_somebody_else(forge: Forge, tmp_path: Path, number: str) -> None:
    """L5: what another user left in our first slot keeps nobody from saving; a closed folder does."""
    path = tmp_path / "model.h5"
    save(path, 1)
    (tmp_path / ".model.h5.0.tmp").touch()
    inject = ["--trace=openat", "-e", f"inject=openat:error={number}:when="]
    assert forge(path, 2, strace=[*inject[:2], inject[2] + "2"])["error"] is None
    assert version_of(path) == 2
    assert litter(tmp_path, path.name) == [".model.h5.0.tmp"]
    answer = forge(path, 3, strace=[*inject[:2], inject[2] + "1+"])
    assert answer["errno"] == getattr(errno, number)
    assert answer["ours"]
    assert version_of(path) == 2


@pytest.mark.tools
@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_file_system_without_locks(forge: Forge, tmp_path: Path, number: str) -> None:
    """P6: where nothing can be locked (Lustre, noflock), saving works and leaves no slots behind."""
    path = tmp_path / "model.h5"
    inject = ["--trace=flock", "-e", f"inject=flock:error={number}:when=1+"]
    for version in (1, 2):
        assert forge(path, version, strace=inject)["error"] is None
        assert version_of(path) == version
        assert litter(tmp_path, path.name) == []
    (tmp_path / ".model.h5.0.tmp").touch()  # a writer at work, or a killed one: nobody can tell
    assert forge(path, 3, strace=inject)["error"] is None
    assert version_of(path) == 3
    assert litter(tmp_path, path.name) == [".model.h5.0.tmp"]


@pytest.mark.tools
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_short_write_is_continued(forge: Forge, tmp_path: Path, size: int) -> None:
    """L3: a file-size limit in the middle of a write makes it short; the rest is asked for and refused."""
    path = tmp_path / "model.h5"
    save(path, 1, size, durable=False)
    whole = path.stat().st_size
    for limit in (1, 4096, 4097, 5000, whole // 2, whole - 1):
        # without fallocate, so that it is the write that meets the limit
        strace = ["--trace=fallocate", "-e", "inject=fallocate:error=ENOSYS"]
        for extra in ({}, {"strace": strace}):
            answer = forge(path, 2, size, file_size_limit=limit, **extra)
            assert answer["error"] == "StorageError", answer
            assert answer["errno"] == errno.EFBIG
            assert answer["fds"] == 0
            assert version_of(path) == 1
            assert litter(tmp_path, path.name) == []
    answer = forge(path, 2, size, file_size_limit=whole + 4096)
    assert answer["error"] is None
    assert version_of(path) == 2


@pytest.mark.tools
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_short_count_is_believed(forge: Forge, tmp_path: Path, size: int) -> None:
    """L3: the system says that it wrote less than asked; what it did not count is written again."""
    new = bytes_of(2, tmp_path, size)
    for k in range(1, 4):
        for count in (1, 63, 4000):
            path = prepare(WORKLOADS[1], tmp_path)
            inject = ["--trace=pwrite64", "-e", f"inject=pwrite64:retval={count}:when={k}"]
            answer = forge(path, 2, size, strace=inject)
            # strace skips the k-th call of each thread altogether, so the bytes that it counted are missing:
            # only they may be
            if answer["error"] is None:
                present = path.read_bytes()
                assert len(present) == len(new)
                wrong = np.flatnonzero(np.frombuffer(present, "u1") != np.frombuffer(new, "u1"))
                assert wrong.size <= count * (1 + (THREADS if size == LARGE else 0))
            assert litter(tmp_path, path.name) == []


EDIT = next(workload for workload in WORKLOADS if workload.name == "edit-20MB")


@pytest.mark.tools
@pytest.mark.parametrize(
    "refusal", ["error=EXDEV", "error=EINVAL", "error=ENOSYS", "error=EOPNOTSUPP", "error=EPERM", "retval=0"]
)
@pytest.mark.parametrize("when", ["1", "2+"])
def test_what_is_not_copied_is_written(forge: Forge, tmp_path: Path, refusal: str, when: str) -> None:
    """L3: the system copies nothing, or no more: the bytes are read and written."""
    new = bytes_of(2, tmp_path, EDIT.size)
    path = prepare(EDIT, tmp_path)
    inject = ["--trace=copy_file_range", "-e", f"inject=copy_file_range:{refusal}:when={when}"]
    answer = forge(path, 2, EDIT.size, options=EDIT.options, strace=inject, want_log=True)
    assert answer["error"] is None, answer
    assert "(INJECTED)" in answer["log"]
    assert path.read_bytes() == new


@pytest.mark.tools
@pytest.mark.parametrize("count", [8, 4096, 512 << 10])
def test_a_copy_that_was_not_made_is_found(forge: Forge, tmp_path: Path, count: int) -> None:
    """L3: the system says that it copied, and did not: what was written has another digest."""
    path = prepare(EDIT, tmp_path)
    inject = ["--trace=copy_file_range", "-e", f"inject=copy_file_range:retval={count}:when=2"]
    answer = forge(path, 2, EDIT.size, options=EDIT.options, strace=inject)
    assert (answer["error"], answer["ours"]) == ("DigestError", True)
    assert "model/w" in answer["text"]
    assert version_of(path) == 1
    assert litter(tmp_path, path.name) == []


@pytest.mark.tools
@pytest.mark.parametrize("k", [1, 2])
def test_failed_sync_is_not_retried(forge: Forge, tmp_path: Path, k: int) -> None:
    """L4: after a failed fsync the pages are gone; asking again would be told that all is well."""
    path = tmp_path / "model.h5"
    save(path, 1)
    inject = ["--trace=fsync,rename", "-e", f"inject=fsync:error=EIO:when={k}"]
    answer = forge(path, 2, strace=inject, want_log=True)
    assert answer["error"] == "StorageError"
    assert answer["errno"] == errno.EIO
    assert len(re.findall(r"fsync\(", answer["log"])) == k
    assert version_of(path) == k  # the second is the folder's: the new name is there, and not durable
    assert litter(tmp_path, path.name) == []


def test_folder_missing(tmp_path: Path) -> None:
    """L5: no folder is made up."""
    with pytest.raises(archive.errors.MissingError) as caught:
        save(tmp_path / "none" / "model.h5", 1)
    assert caught.value.errno == errno.ENOENT
    assert os.listdir(tmp_path) == []


def test_folder_is_a_file(tmp_path: Path) -> None:
    """L5: a path through a file."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(archive.ArchiveError) as caught:
        save(tmp_path / "file" / "model.h5", 1)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("overwrite", [True, False])
def test_target_is_a_folder(tmp_path: Path, overwrite: bool) -> None:
    """L5: a folder is never replaced."""
    (tmp_path / "model.h5").mkdir()
    with pytest.raises(archive.ArchiveError) as caught:
        save(tmp_path / "model.h5", 1, overwrite=overwrite)
    assert isinstance(caught.value, OSError)
    assert os.listdir(tmp_path) == ["model.h5"]


@pytest.mark.parametrize("trailing", ["/", "/."])
def test_trailing_slash_of_nothing(tmp_path: Path, trailing: str) -> None:
    """L5: "name/" names a folder; no file is written under another spelling of it."""
    before = open_files(tmp_path)
    try:
        save(f"{tmp_path}/model.h5{trailing}", 1)
    except archive.errors.StorageError:
        assert os.listdir(tmp_path) == []
    else:
        assert version_of(tmp_path / "model.h5") == 1
    assert open_files(tmp_path) == before


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """L5: what a link leads to is replaced, the link is not; temporary files lie beside the target."""
    (tmp_path / "real").mkdir()
    save(tmp_path / "real" / "model.h5", 1)
    link = tmp_path / "latest.h5"
    link.symlink_to("real/model.h5")
    save(link, 2)
    assert link.is_symlink()
    assert version_of(tmp_path / "real" / "model.h5") == version_of(link) == 2
    with pytest.raises(archive.errors.ExistsError):
        save(link, 3, overwrite=False)
    assert os.listdir(tmp_path / "real") == ["model.h5"]


def test_dangling_link(tmp_path: Path) -> None:
    """L5: a link to nothing is followed: its target appears."""
    link = tmp_path / "latest.h5"
    link.symlink_to("model.h5")
    save(link, 1)
    assert link.is_symlink()
    assert version_of(tmp_path / "model.h5") == 1


def test_link_loop(tmp_path: Path) -> None:
    """L5: a link to itself is an error or is replaced, never a hang."""
    link = tmp_path / "model.h5"
    link.symlink_to("model.h5")
    try:
        save(link, 1)
    except archive.errors.StorageError:
        pass
    else:
        assert version_of(link) == 1
    assert os.listdir(tmp_path) == ["model.h5"]


@pytest.mark.parametrize("name", ["a" * 252 + ".h5", "ü" * 127, "\u4e2d" * 85, "-", " ", "a\nb", "\udc80.h5"])
def test_longest_and_oddest_names(tmp_path: Path, name: str) -> None:
    """L5: names of 255 bytes, of multi-byte characters, and of bytes that are no UTF-8."""
    path = tmp_path / name
    save(path, 1)
    save(path, 2)
    assert version_of(path) == 2
    assert os.listdir(tmp_path) == [name]


def test_name_too_long(tmp_path: Path) -> None:
    """L5: 256 bytes are refused before anything is there, or an array was asked for."""
    with pytest.raises(archive.errors.StorageError) as caught:
        save(tmp_path / ("a" * 256), 1)
    assert caught.value.errno == errno.ENAMETOOLONG
    layers = iter([("w", np.ones(3))])
    with pytest.raises(archive.errors.StorageError, match="choose a shorter file name"):
        archive.save(layers, tmp_path / ("a" * 256))
    assert next(layers)[0] == "w"
    assert os.listdir(tmp_path) == []


def test_planted_temporary_files(tmp_path: Path) -> None:
    """L5: links, folders and pipes under our temporary names are neither followed nor waited for."""
    path, victim = tmp_path / "model.h5", tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".model.h5.0.tmp").symlink_to(victim)
    os.link(victim, tmp_path / ".model.h5.1.tmp")
    try:
        save(path, 1)
    except archive.ArchiveError:
        assert not path.exists()
    else:
        assert version_of(path) == 1
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_planted_slot_of_another_kind(tmp_path: Path, kind: str) -> None:
    """L5: a folder or pipe where a temporary file would be does not keep anyone from saving."""
    slot = tmp_path / ".model.h5.0.tmp"
    if kind == "folder":
        slot.mkdir()
    else:
        os.mkfifo(slot)
    before = open_files(tmp_path)
    save(tmp_path / "model.h5", 1)
    assert version_of(tmp_path / "model.h5") == 1
    assert open_files(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system of 8 MB."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4")
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no loop mounts here: {mounted.stderr}")
    shutil.rmtree(folder / "lost+found")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.root
def test_full_disk(small_disk: Path) -> None:
    """L3: a disk that is really full, at many fill levels; the old archive and the space come back."""
    path = small_disk / "model.h5"
    save(path, 1)
    free = shutil.disk_usage(small_disk).free
    refused, errnos = 0, set()
    for elements in (free // 8 - 1000, free // 8, free // 8 + 100_000, LARGE):
        before = open_files(small_disk)
        try:
            save(path, 2, elements)
        except archive.errors.StorageError as error:
            errnos.add(error.errno)
            refused += 1
            assert version_of(path) == 1
        else:
            assert version_of(path) == 2
            save(path, 1)
        assert litter(small_disk, path.name) == []
        assert open_files(small_disk) == before
        assert abs(shutil.disk_usage(small_disk).free - free) < 100_000
    assert refused >= 2
    assert errnos == {errno.ENOSPC}


@pytest.mark.root
def test_full_disk_without_reservation(small_disk: Path, forge: Forge) -> None:
    """L3: a full disk that only the writes find."""
    path = small_disk / "model.h5"
    save(path, 1)
    inject = ["--trace=fallocate", "-e", "inject=fallocate:error=ENOSYS"]
    answer = forge(path, 2, LARGE, strace=inject)
    assert answer["error"] == "StorageError"
    assert answer["errno"] == errno.ENOSPC
    assert version_of(path) == 1
    assert litter(small_disk, path.name) == []


@pytest.mark.root
@pytest.mark.parametrize("reserves", [True, False])
def test_an_edit_on_a_full_disk(small_disk: Path, forge: Forge, reserves: bool) -> None:
    """L3: found by the reservation, or by a write: the old archive stays."""
    path = small_disk / "model.h5"
    save(path, 1)
    save_base(path, 1, LARGE)
    inject = [] if reserves else ["-e", "inject=fallocate:error=ENOSYS"]
    answer = forge(path, 2, LARGE, options={"edit": True}, strace=["--trace=fallocate", *inject])
    assert (answer["error"], answer["errno"]) == ("StorageError", errno.ENOSPC)
    assert version_of(path) == 1
    assert litter(small_disk, path.name) == []


@pytest.mark.root
def test_an_edit_that_fills_the_disk_with_copies(small_disk: Path) -> None:
    """L3: source and target on the disk that is full."""
    path = small_disk / "model.h5"
    arrays = {"large": np.arange(400_000), "small": np.arange(10)}
    archive.save(arrays, path)
    before = path.read_bytes()
    with pytest.raises(archive.errors.StorageError) as caught, archive.tools.edit(path) as e:
        e["model", "more"] = np.arange(300_000)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert litter(small_disk, path.name) == []


@pytest.mark.root
def test_read_only_disk(small_disk: Path) -> None:
    """L5: a read-only file system: saving raises, reading goes on."""
    path = small_disk / "model.h5"
    save(path, 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(archive.errors.StorageError) as caught:
        save(path, 2)
    assert caught.value.errno == errno.EROFS
    assert version_of(path) == 1


@pytest.mark.root
def test_link_across_file_systems(small_disk: Path, tmp_path: Path) -> None:
    """L5: a link from one file system to another: the temporary file lies where the target is."""
    save(small_disk / "model.h5", 1)
    (tmp_path / "latest.h5").symlink_to(small_disk / "model.h5")
    save(tmp_path / "latest.h5", 2)
    assert version_of(small_disk / "model.h5") == 2
    assert os.listdir(small_disk) == ["model.h5"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    """L5: a folder without write permission."""
    path = tmp_path / "model.h5"
    save(path, 1)
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(archive.errors.StorageError) as caught:
            save(path, 2)
        assert caught.value.errno == errno.EACCES
        assert version_of(path) == 1
    finally:
        tmp_path.chmod(stat.S_IRWXU)
