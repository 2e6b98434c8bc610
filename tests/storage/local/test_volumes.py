"""What a save replaces: a regular file or nothing; and what the new file has of the old one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.storage.local.sink import AtomicFile
from archive.tools.averaging import mean
from archive.tools.copying import copy
from archive.tools.editing import edit
from archive.tools.reindexing import reindex
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.scenes import litter

ARRAYS = {"w": np.arange(6.0)}
NOBODY = 65534
ACL = "system.posix_acl_access"


def streamed(path: Path) -> None:
    with archive.create(path) as writer:
        writer.add("model", "w", ARRAYS["w"])


def other(path: Path) -> Path:
    """Return another archive."""
    place = path.parent / "elsewhere" / "other.h5"
    place.parent.mkdir(exist_ok=True)
    archive.save(ARRAYS, place)
    return place


def edited(path: Path, out: Path | None = None) -> None:
    with edit(path, out) as e:
        e["w"] = ARRAYS["w"]


WRITING: dict[str, Callable[[Path], Any]] = {
    "save": lambda path: archive.save(ARRAYS, path),
    "consuming": lambda path: archive.save(dict(ARRAYS), path, keep_input=False),
    "exclusive": lambda path: archive.save(ARRAYS, path, overwrite=False),
    "create": streamed,
    "copy": lambda path: copy(other(path), path),
    "reindex": lambda path: reindex(other(path), path),
    "edit": lambda path: edited(other(path), path),
    "mean": lambda path: mean([other(path), other(path)], out=path),
}


@pytest.fixture(params=["pipe", "socket", "device", "null"])
def special(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Something that is no file."""
    path = tmp_path / "special"
    with contextlib.ExitStack() as stack:
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            monkeypatch.chdir(tmp_path)  # their paths may have 107 bytes
            listener.bind(path.name)
        elif os.geteuid():
            pytest.skip("devices need root")
        else:
            # a copy of /dev/null, as a character or block device
            kind = stat.S_IFCHR if request.param == "null" else stat.S_IFBLK
            os.mknod(path, kind | 0o666, os.makedev(1, 3))
        yield path


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("how", WRITING)
def test_only_a_file_is_replaced(special: Path, how: str, linked: bool) -> None:
    """A pipe, socket or device stays what it is, also behind a link."""
    before, name = special.stat(), special
    if linked:
        name = special.with_name("model.h5")
        name.symlink_to(special.name)
    names = litter(special.parent, "elsewhere")
    with pytest.raises(archive.errors.StorageError) as caught:
        WRITING[how](name)
    if how != "exclusive":
        assert "not replaced" in str(caught.value)
    assert os.path.samestat(special.stat(), before)
    assert litter(special.parent, "elsewhere") == names


def test_a_command_replaces_no_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["cp", str(other(tmp_path / "pipe")), str(tmp_path / "pipe")]) != 0
    assert "not replaced" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


def test_what_the_system_calls_a_link_only(tmp_path: Path) -> None:
    """A name in /proc leads to a pipe that has no path."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(archive.errors.StorageError, match="not replaced"):
            archive.save(ARRAYS, f"/proc/self/fd/{writing}")
    finally:
        os.close(reading)
        os.close(writing)


def test_links_to_links_and_loops(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.h5").symlink_to("folder/b.h5")
    (tmp_path / "folder" / "b.h5").symlink_to("../c.h5")
    archive.save(ARRAYS, tmp_path / "a.h5")
    assert (tmp_path / "a.h5").is_symlink()
    assert (tmp_path / "c.h5").is_file()
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    with pytest.raises(archive.errors.StorageError, match="cannot be followed"):
        archive.save(ARRAYS, tmp_path / "loop.h5")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all may write to, reached by all."""
    if os.geteuid():
        pytest.skip("a second user needs root")
    folder = Path(tempfile.mkdtemp(prefix="fedarchive-shared-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.parametrize("how", WRITING)
def test_links_of_others_in_a_shared_folder(shared: Path, tmp_path: Path, how: str) -> None:
    """As Linux has it for what is opened (fs.protected_symlinks)."""
    thesis, link = tmp_path / "thesis.txt", shared / "model.h5"
    thesis.write_text("years of work")
    link.symlink_to(thesis)
    os.lchown(link, NOBODY, NOBODY)
    with pytest.raises(archive.errors.StorageError, match="another user's link"):
        WRITING[how](link)
    assert thesis.read_text() == "years of work"
    assert litter(shared, "elsewhere") == ["model.h5"]


@pytest.mark.root
def test_a_chain_of_links_that_leads_through_a_shared_folder(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.h5").symlink_to(shared / "model.h5")
    (shared / "model.h5").symlink_to(tmp_path / "thesis.txt")
    os.lchown(shared / "model.h5", NOBODY, NOBODY)
    with pytest.raises(archive.errors.StorageError, match="another user's link"):
        archive.save(ARRAYS, tmp_path / "mine.h5")
    assert not (tmp_path / "thesis.txt").exists()


@pytest.mark.root
def test_links_of_ones_own_in_a_shared_folder(shared: Path, tmp_path: Path) -> None:
    (shared / "model.h5").symlink_to(tmp_path / "model.h5")
    archive.save(ARRAYS, shared / "model.h5")
    assert archive.verify(tmp_path / "model.h5").ok
    os.lchown(shared / "model.h5", NOBODY, NOBODY)
    shared.chmod(0o755)  # nobody else could have made it here
    archive.save(ARRAYS, shared / "model.h5")


# attributes ----------------------------------------------------------------------------------------------


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list of (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ANYONE = 0xFFFFFFFF
NAMED_USER = acl((1, 6, ANYONE), (2, 4, 1234), (4, 0, ANYONE), (16, 4, ANYONE), (32, 0, ANYONE))
"""The owner reads and writes, user 1234 reads."""


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("how", [how for how in WRITING if how != "exclusive"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.needs("os.setxattr")
def test_mode_and_attributes_stay(tmp_path: Path, umask: Callable[[int], int], how: str, mode: int) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    path.chmod(mode)
    try:
        os.setxattr(path, "user.experiment", b"seven")
    except OSError:
        pytest.skip("no extended attributes here")
    WRITING[how](path)
    assert archive.verify(path).ok
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listxattr(path) == ["user.experiment"]
    assert os.getxattr(path, "user.experiment") == b"seven"


@pytest.mark.parametrize("how", WRITING)
def test_a_new_file_follows_the_umask(tmp_path: Path, umask: Callable[[int], int], how: str) -> None:
    for mask in (0o022, 0o077, 0o002):
        umask(mask)
        path = tmp_path / f"{mask}.h5"
        WRITING[how](path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("how", ["old", "new"])
@pytest.mark.needs("os.setxattr")
def test_access_control_lists(tmp_path: Path, umask: Callable[[int], int], how: str) -> None:
    """The old file's list stays; that of the folder gives nobody what the old file did not."""
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    path.chmod(0o640)
    try:
        if how == "old":
            os.setxattr(path, ACL, NAMED_USER)
        else:
            os.setxattr(tmp_path, "system.posix_acl_default", NAMED_USER)
    except OSError:
        pytest.skip("no access control lists here")
    mode = stat.S_IMODE(path.stat().st_mode)
    archive.save(ARRAYS, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert (ACL in os.listxattr(path)) == (how == "old")
    assert how == "new" or os.getxattr(path, ACL) == NAMED_USER


@pytest.mark.parametrize("kind", ["planned", "partial"])
def test_a_temporary_file_is_no_more_open(tmp_path: Path, umask: Callable[[int], int], kind: str) -> None:
    """While it is written nobody else reads what replaces a closed file."""
    umask(0)
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    path.chmod(0o600)
    modes = {}

    def arrays() -> Iterator[tuple[str, Any]]:
        yield "a", np.zeros(1000)
        for name in litter(tmp_path, path.name):
            modes[name] = stat.S_IMODE((tmp_path / name).stat().st_mode)
        yield "b", np.zeros(1000)

    archive.save(arrays(), path, keep_input=kind == "planned")
    assert len(modes) == (1 if kind == "planned" else 2)  # a journal too
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_closed_meanwhile_stays_closed(tmp_path: Path, umask: Callable[[int], int]) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    for before in (0o644, None):
        file = AtomicFile(str(path))
        file.write(b"new", 0)
        if before is None:
            path.unlink()
        else:
            path.chmod(0o600)
        file.publish()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes() == b"new"


def test_a_link_that_appears_while_the_file_is_written(tmp_path: Path, umask: Callable[[int], int]) -> None:
    """The archive got the mode of the link, 0777: everybody could write to it."""
    umask(0o022)
    path = tmp_path / "model.h5"
    for before in (None, 0o640):
        path.unlink(missing_ok=True)
        if before is not None:
            path.touch()
            path.chmod(before)
        file = AtomicFile(str(path))
        file.write(b"new", 0)
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "other.h5")
        file.publish()
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == (before or 0o644)


def test_a_pipe_that_appears_while_the_file_is_written(tmp_path: Path) -> None:
    """It was replaced, as the pipe that was there before is not."""
    path = tmp_path / "model.h5"
    file = AtomicFile(str(path))
    os.mkfifo(path)
    with pytest.raises(archive.errors.StorageError, match="is a pipe"):
        file.publish()
    file.discard()
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["model.h5"]


@pytest.mark.root
def test_owner_and_group_stay(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    archive.save(ARRAYS, path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


@pytest.mark.root
@pytest.mark.parametrize("how", [how for how in WRITING if how != "exclusive"])
def test_a_file_that_another_user_put_there_first(shared: Path, how: str) -> None:
    """In a folder such as ``/tmp`` root gives its archive to nobody."""
    path = shared / "model.h5"
    path.touch()
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o666)
    WRITING[how](path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o600)


AS_NOBODY = """
import os, sys
import numpy as np
import archive
archive.save({"w": np.arange(6.0)}, sys.argv[3])  # imports what another user may not read
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
archive.save({"w": np.arange(6.0)}, sys.argv[2])
"""


@pytest.mark.root
def test_a_group_that_cannot_be_kept(shared: Path, tmp_path: Path) -> None:
    """The group of who saves may then do no more than everybody."""
    shared.chmod(0o777)
    path = shared / "model.h5"
    path.write_bytes(b"old")
    path.chmod(0o664)
    command = [sys.executable, "-c", AS_NOBODY, str(NOBODY), str(path), str(tmp_path / "first.h5")]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY, NOBODY, 0o644)


@pytest.mark.root
def test_a_group_that_cannot_be_kept_and_an_access_control_list(shared: Path, tmp_path: Path) -> None:
    """The list came with what the old group may do: the new group could read and write a private archive."""
    shared.chmod(0o777)
    path = shared / "model.h5"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, ACL, acl((1, 6, ANYONE), (4, 6, ANYONE), (16, 6, ANYONE), (32, 0, ANYONE)))
    except OSError:
        pytest.skip("the file system has no access control lists")
    command = [sys.executable, "-c", AS_NOBODY, str(NOBODY), str(path), str(tmp_path / "first.h5")]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    found = path.stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY, 0o600)
