"""One job under a memory cap, in an interpreter of its own: ``python -m tests.memory.child JOB FOLDER ...``.

The last line of its output is a JSON object of figures.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import archive

NDArray = np.ndarray[Any, Any]


def rss_anon() -> int:
    """Return the anonymous memory of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def arrays(total: int, each: int, seed: int = 0) -> Iterator[tuple[str, NDArray]]:
    """Yield float32 arrays that tell their number, none kept."""
    for number in range(total // each):
        yield f"layer{number}", np.full((each // 4096, 1024), number + seed, "f4")


def generator(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Save what is made on the way."""
    archive.save(arrays(total, each), folder / "from-generator.h5", keep_input=False, durable=False)
    return {}


def lazy(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Save the records of another archive."""
    with archive.open(folder / "source.h5") as handle:
        archive.save(handle.records, folder / "from-archive.h5", keep_input=False, durable=False)
    return {}


def checkpoint(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Save a mapped torch checkpoint."""
    import torch

    start = rss_anon()
    state = torch.load(folder / "source.pt", mmap=True, weights_only=True)
    archive.save(state, folder / "from-torch.h5", keep_input=False, durable=False)
    return {"start": start}


def drain(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Read every array once."""
    with archive.open(folder / "source.h5") as handle:
        for number, (_, array) in enumerate(handle.drain()):
            view = array.numpy()
            assert view[0, 0] == view[-1, -1] == number
    return {}


def drain_remote(folder: Path, total: int, each: int, cache: Path | None = None) -> dict[str, Any]:
    """Read every array of an object once, from an anonymous S3 server."""
    import s3fs  # the client that is part of a plain install; its imports are not what is measured

    assert s3fs
    start = rss_anon()
    options = {"anon": True, "endpoint_url": (folder / "endpoint").read_text()}
    with archive.open("s3://bucket/source.h5", storage_options=options, cache=cache) as handle:
        for number, (_, array) in enumerate(handle.drain()):
            view = array.numpy()
            assert view[0, 0] == view[-1, -1] == number
        access = handle.info.access
    return {"start": start, "access": access}


def drain_cached(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Do the same, keeping what was read in a folder."""
    return drain_remote(folder, total, each, folder / "cache")


def load_remote(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Load an object of an anonymous S3 server whole, and drop it."""
    options = {"anon": True, "endpoint_url": (folder / "endpoint").read_text()}
    url = (folder / "url").read_text()
    with archive.open(url, storage_options=options) as handle:  # the client is not what is measured
        assert len(handle) == total // each
    start = rss_anon()
    records = archive.load(url, storage_options=options)
    gc.collect()
    loaded = rss_anon()
    held = sum(array.numpy().nbytes for array in records.array_records["model"].values())
    del records
    gc.collect()
    return {"start": start, "loaded": loaded, "held": held, "dropped": rss_anon()}


def verify(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Verify every byte."""
    assert archive.verify(folder / "source.h5").ok
    return {}


def mean(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Average four archives of half the size into a fifth."""
    paths = [folder / f"client{seed}.h5" for seed in range(4)]
    archive.mean(paths, out=folder / "mean.h5", durable=False)
    with archive.open(folder / "mean.h5") as handle:
        for number, (_, array) in enumerate(handle.drain()):
            assert array[0, 0] == array[-1, -1] == number + 1.5
    return {}


def prepare(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Make an archive to read."""
    archive.save(arrays(total, each), folder / "source.h5", durable=False)
    return {}


def prepare_clients(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Make four archives of half the size."""
    for seed in range(4):
        archive.save(arrays(total // 2, each, seed), folder / f"client{seed}.h5", durable=False)
    return {}


def prepare_checkpoint(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Make a torch checkpoint; for that all of it has to be in memory."""
    import torch

    state = {key: torch.from_numpy(array) for key, array in arrays(total, each)}
    torch.save(state, folder / "source.pt")
    return {}


def convert(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Convert an archive to another format, and that to an archive, both read back and compared."""
    from archive.tools import convert as converted

    name = (folder / "format").read_text()
    if name.endswith(".pt"):
        import torch

        assert torch
    start = rss_anon()
    source, target, back = folder / "source.h5", folder / f"there{name}", folder / "back.h5"
    for one, other in ((source, target), (target, back)):
        report = converted(one, other, durable=False)
        assert (report.verified, report.lossless, report.array_bytes) == (True, True, total)
    return {"start": start}


def state_dict(folder: Path, total: int, each: int) -> dict[str, Any]:
    """Consume a torch state dict and watch it go, as the library writes."""
    import torch

    state = {f"layer{n}": torch.full((each // 4096, 1024), float(n)) for n in range(total // each)}
    references = [weakref.ref(tensor) for tensor in state.values()]
    collected: list[str] = []
    gc.collect()
    gc.callbacks.append(lambda phase, info: collected.append(phase) if info["generation"] == 2 else None)
    start, seen = rss_anon(), []

    def progress(done: int, _: int) -> None:
        seen.append((done, rss_anon(), sum(reference() is None for reference in references), len(state)))

    threshold = total // 8 + 1
    archive.save(
        state, folder / "state.h5", keep_input=False, durable=False, progress=progress, gc_threshold=threshold
    )
    half = next(entry for entry in seen if entry[0] >= total // 2 + (64 << 10))
    return {
        "start": start,
        "half": half[1],
        "half_dead": half[2],
        "half_left": half[3],
        "peak_in_progress": max(entry[1] for entry in seen),
        "tensors": len(references),
        "left": len(state),
        "collections": collected.count("start"),
    }


JOBS = {
    job.__name__: job
    for job in (
        *(
            generator,
            lazy,
            checkpoint,
            drain,
            drain_remote,
            drain_cached,
            load_remote,
            verify,
            mean,
            convert,
            state_dict,
        ),
        *(prepare, prepare_clients, prepare_checkpoint),
    )
}


def main() -> None:
    """Do one job and tell its figures."""
    name, folder, total, each = sys.argv[1:]
    begin = time.perf_counter()
    found = JOBS[name](Path(folder), int(total), int(each))
    found["seconds"] = round(time.perf_counter() - begin, 2)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
