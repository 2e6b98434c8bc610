"""Work on archives in one process: ``python -m tests.hidden.work FOLDER JOB...`` does some of these jobs."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

import archive
import archive.tools
from archive.cli import main as command
from archive.owner import Descriptor
from archive.storage.local.source import open_source
from archive.storage.remote.cachefolder import clear_cache, list_cache
from tests.storage.folderstore import FolderStore, reach

__all__ = ["JOBS"]

SIZE = 300_000
"""Of a float64 array that is mapped and written in pieces."""


def arrays(version: int = 1) -> dict[str, np.ndarray]:
    """Return a large and a small array that tell their version by every element."""
    return {"large": np.arange(SIZE) + version, "small": np.full(7, version, "f4")}


def require_version(path: Path, version: int = 1) -> None:
    """Read and verify every byte."""
    found = archive.load(path).array_records["model"]
    for key, array in arrays(version).items():
        assert np.array_equal(found[key].numpy(), array), key
    assert archive.verify(path).ok


def save_and_read(folder: Path) -> None:
    path = folder / "model.h5"
    archive.save(arrays(), path)
    require_version(path)
    for access in ("auto", "mmap", "pread"):
        with archive.open(path, access=access) as handle:
            assert handle.info.access == ("pread" if access == "pread" else "mmap")
            assert handle["large"][4000:4003].tolist() == [4001, 4002, 4003]
            assert np.array_equal(handle["large"].numpy(), arrays()["large"])
            whole = handle["large"].numpy()
        assert whole[-1] == SIZE  # outlives the handle
    assert os.listdir(folder) == ["model.h5"]


def change_a_copy(folder: Path) -> None:
    """Views cannot be made writable; copies on write do not reach the file or each other."""
    path = folder / "model.h5"
    archive.save(arrays(), path)
    with archive.open(path) as handle:
        view = handle["large"].numpy()
        with contextlib.suppress(ValueError):
            view.flags.writeable = True
            raise AssertionError("a view of the map can be made writable")
    with archive.open(path, mode="c") as handle:
        mine = handle["large"].numpy()
        mine[:] = -1
    require_version(path)


def save_again(folder: Path) -> None:
    path = folder / "model.h5"
    archive.save(arrays(1), path)
    path.chmod(0o600)
    archive.save(arrays(2), path)
    require_version(path, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    try:
        archive.save(arrays(3), path, overwrite=False)
    except archive.errors.ExistsError:
        pass
    else:
        raise AssertionError("replaced")
    require_version(path, 2)
    archive.save(arrays(4), folder / "new.h5", overwrite=False)
    require_version(folder / "new.h5", 4)
    assert sorted(os.listdir(folder)) == ["model.h5", "new.h5"]


def stream(folder: Path) -> None:
    path = folder / "model.h5"
    with archive.create(path) as writer:
        for key, array in arrays().items():
            writer.add("model", key, array)
    require_version(path)
    archive.save(iter(arrays(2).items()), path)
    require_version(path, 2)


def edit(folder: Path) -> None:
    path = folder / "model.h5"
    archive.save(arrays(1) | {"small": arrays(2)["small"]}, path)
    with archive.tools.edit(path) as e:
        e["large"] = arrays(2)["large"]
        assert e["small"].shape == (7,)
    require_version(path, 2)
    assert os.listdir(folder) == ["model.h5"]


def consume(folder: Path) -> None:
    path, given = folder / "model.h5", arrays()
    archive.save(given, path, keep_input=False)
    assert given == {}
    require_version(path)
    assert os.listdir(folder) == ["model.h5"]


def killed(path: Path) -> None:
    """Consume two arrays, and be killed as the third is asked for."""

    def pairs() -> Iterator[tuple[str, np.ndarray]]:
        yield from arrays().items()
        os.kill(os.getpid(), signal.SIGKILL)

    archive.save(pairs(), path, keep_input=False)


def recover(folder: Path) -> None:
    path = folder / "model.h5"
    again = [sys.executable, "-m", "tests.hidden.work", "--killed", str(path)]
    assert subprocess.run(again, check=False).returncode == -signal.SIGKILL
    assert sorted(os.listdir(folder)) == ["model.h5.partial", "model.h5.partial.journal"]
    found = archive.recover(f"{path}.partial").array_records["model"]
    for key, array in arrays().items():
        assert np.array_equal(found[key].numpy(), array), key


def leave(folder: Path) -> None:
    """What looks like the file of a killed writer stays where nothing tells that its writer is gone."""
    path, left = folder / "model.h5", folder / ".model.h5.0.tmp"
    left.write_bytes(bytes(8192))
    archive.save(arrays(), path)
    require_version(path)
    assert left.exists()


def keep_a_store(folder: Path) -> None:
    with archive.CheckpointStore(folder, keep_last=2, background=True) as store:
        for number in range(1, 5):
            store.save({"drift": np.full(2, number)}, number, client="client-7", background=False)
            store.save(arrays(number), number, metrics={"loss": 1.0 / number})
    store = archive.CheckpointStore(folder)
    assert store.rounds() == [3, 4]
    with store.open("latest") as handle:
        assert handle["small"].numpy()[0] == 4
    with store.open(3, client="client-7") as handle:
        assert handle["drift"].numpy().tolist() == [3, 3]
    assert store.history()["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert store.verify(4).ok
    assert archive.CheckpointStore(folder, keep_last=1).prune() == [3]
    (folder / "rounds" / "00000003").mkdir(exist_ok=True)
    archive.save({"drift": np.zeros(2)}, folder / "rounds" / "00000003" / "orphan.h5")
    store.gc(0)
    assert store.rounds() == [4]


def cache(folder: Path) -> None:
    store = FolderStore(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        reach(store, patch)
        archive.save(arrays(), "folder://model.h5")
        for _ in range(2):
            with archive.open("folder://model.h5", cache=folder / "cache") as handle:
                assert np.array_equal(handle["large"].numpy(), arrays()["large"])
        kept = list_cache(str(folder / "cache"))
        assert [entry.cached_bytes > 8 * SIZE for entry in kept] == [True]
        assert clear_cache(str(folder / "cache")) == kept


def read_side_by_side(folder: Path) -> None:
    """Threads that share one descriptor read what they asked for."""
    path = folder / "numbers"
    path.write_bytes(np.arange(1 << 18, dtype="<u4").tobytes())
    source = open_source(str(path), "pread")

    def read(start: int) -> bool:
        return bool((source.read(4 * start, 4096).view("<u4") == np.arange(start, start + 1024)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(0, (1 << 18) - 1024, 512)))


def leave_stdio(folder: Path) -> None:
    """A file in the making gets none of the numbers of stdin, stdout and stderr."""
    kept = os.dup(0)
    os.close(0)
    with Descriptor() as file:
        number = file.open(str(folder / "file"), os.O_RDWR | os.O_CREAT)
    os.dup2(kept, 0)
    os.close(kept)
    assert number > 2


def foreign(folder: Path) -> None:
    path = folder / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["plain"] = arrays()["large"]
        file.create_dataset("packed", data=arrays()["large"], compression="gzip")
    with archive.open(path, foreign=True) as handle:
        for key in ("plain", "packed"):
            assert np.array_equal(handle[key].numpy(), arrays()["large"])


def run_commands(folder: Path) -> None:
    path = folder / "model.h5"
    archive.save(arrays(), path)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        for name in ("info", "ls", "verify"):
            assert command([name, str(path)]) == 0, told.getvalue()
        assert command(["cp", str(path), str(folder / "copy.h5")]) == 0, told.getvalue()
        assert command(["mean", str(folder / "mean.h5"), str(path), str(path)]) == 0, told.getvalue()
        assert command(["gc", str(folder)]) == 0, told.getvalue()
    require_version(folder / "copy.h5")
    require_version(folder / "mean.h5")


JOBS: dict[str, Callable[[Path], None]] = {
    job.__name__: job
    for job in (
        save_and_read,
        change_a_copy,
        save_again,
        stream,
        edit,
        consume,
        recover,
        leave,
        keep_a_store,
        cache,
        read_side_by_side,
        leave_stdio,
        foreign,
        run_commands,
    )
}


def main() -> None:
    """Do jobs, each in a folder of its own, or be killed."""
    if sys.argv[1] == "--killed":
        killed(Path(sys.argv[2]))
    for name in sys.argv[2:]:
        folder = Path(sys.argv[1], name)
        folder.mkdir()
        JOBS[name](folder)


if __name__ == "__main__":
    main()
