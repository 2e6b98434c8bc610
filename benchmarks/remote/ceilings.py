"""What the same client does at best: ranges of 16 MiB side by side, parts of 16 MiB side by side."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.remote.peers import Where

PIECE = 16 << 20


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Print one line of JSON: seconds of each, alternating, and the medians of their ratios."""
    task = json.loads(sys.argv[1])
    import archive
    from archive.storage.location import locate_store
    from archive.storage.url import parse_url
    from archive.tuning import PARTS

    where = Where(**task["where"])
    url = f"s3://{where.bucket}/ceiling.h5"
    arrays = {
        f"a{number}": np.random.default_rng(number).integers(0, 99, (4 << 20) // 4, "i4")
        for number in range(task["megabytes"] // 4)
    }
    store, path = locate_store(parse_url(url, where.options))
    other = f"{where.bucket}/ceiling.raw"

    def save() -> None:
        archive.save(arrays, url, storage_options=where.options)

    def upload() -> None:
        data = np.zeros(PIECE, np.uint8)
        upload = store.create_multipart(other)
        with ThreadPoolExecutor(PARTS) as pool:
            list(pool.map(lambda number: upload.put_part(number, data), range(1, nbytes // PIECE + 2)))
        upload.complete(exclusive=False)

    def part(span: tuple[int, int]) -> Any:
        start, stop = span
        return np.frombuffer(store.get_range(path, start, stop, version), "u1")

    def fetch() -> None:
        spans = [(start, min(start + PIECE, nbytes)) for start in range(0, nbytes, PIECE)]
        with ThreadPoolExecutor(store.parallel) as pool:
            # kept, as load keeps them
            list(pool.map(part, spans))

    def load() -> None:
        archive.load(url, storage_options=where.options)

    save()
    version = store.head(path)
    nbytes = version.nbytes
    upload()
    pairs: dict[str, list[tuple[float, float]]] = {
        "load": [(timed(fetch), timed(load)) for _ in range(task["runs"])],
        "save": [(timed(upload), timed(save)) for _ in range(task["runs"])],
    }
    result: dict[str, Any] = {"client": store.name, "nbytes": nbytes}
    for name, times in pairs.items():
        result[name] = {
            "raw": [round(raw, 4) for raw, _ in times],
            "ours": [round(ours, 4) for _, ours in times],
            "ratio": round(statistics.median(raw / ours for raw, ours in times), 3),
        }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
