"""``python -m benchmarks.scale.costs``: what an archive, a partial sum and a task of a mean cost here.

The tasks of `archive.mean` (``sum_batch``, ``sum_group``) are called as an executor calls them, each in a
process of its own, over files and over moto behind a proxy. Their processor time is fitted by archives, bytes
read, bytes written and tasks; no cost is negative. `simulate` computes with these figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.engine.read.open import open_reader
from archive.storage.url import parse_url
from archive.tools.averaging import cut_batches
from archive.tools.batches import Group, Partial, Rule, sum_batch, sum_group
from archive.tools.many import find_inputs
from benchmarks.machine import machine_facts, versions
from benchmarks.process import resident_anonymous_bytes
from benchmarks.scale.watching import watch

__all__ = ["RESULTS", "fit", "main", "measure"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "scale-costs.json"
SMALL, LARGE = 300_000, 6_000_000
"""Array bytes of the archives that tasks are measured with."""
COUNTS = (2, 64)
"""Archives of a task."""
FUNCTIONS = ("table", "verify", "stats", "mean", "accumulator")
MANY = 1000
"""Archives of 0.3 MB that each function reads."""
NAMES = 100_000
"""Names that the caller of a mean is measured with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, and write it where ``--out`` says."""
    options = _parser().parse_args(arguments)
    if options.child:
        print(json.dumps(_child(json.loads(Path(options.child).read_text()))))
        return 0
    found = measure(options.folder, options.runs)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if options.out:
        Path(options.out).write_text(text)
    return 0


def measure(
    parent: str | None = None, runs: int = 3, *, sizes: Sequence[int] = (SMALL, LARGE)
) -> dict[str, Any]:
    """Return costs measured in this run."""
    folder = Path(tempfile.mkdtemp(prefix="fedarchive-costs-", dir=parent))
    try:
        for nbytes, kind in itertools.product(sizes, ("f4", "f8")):
            for number in range(max(COUNTS)):
                _save(folder / f"{kind}-{nbytes}" / f"client{number:05d}.h5", number, nbytes, kind)
        found = {
            "moment": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine_facts(folder),
            "versions": versions(),
            "command": "python -m benchmarks.scale.costs",
            "sizes": list(sizes),
            "overhead": _overhead(folder / f"f4-{sizes[0]}" / "client00000.h5"),
            "files": _tasks(folder, runs, sizes),
            "s3": _remote_tasks(folder, runs, sizes),
            "functions": _functions(folder, runs, sizes[0]),
            "caller": _caller(),
        }
    finally:
        shutil.rmtree(folder)
    return found


def fit(rows: Sequence[tuple[float, Sequence[float]]]) -> list[float]:
    """Return costs of the quantities of each row that explain its total best, none of them negative."""
    totals = np.array([total for total, _ in rows])
    quantities = np.array([row for _, row in rows], dtype=float)
    scale = quantities.max(axis=0)
    best, least = np.zeros(len(scale)), float("inf")
    for chosen in itertools.product((False, True), repeat=len(scale)):
        used = [number for number, one in enumerate(chosen) if one]
        weighed = (quantities / scale)[:, used] / totals[:, None]  # relative errors count, not absolute ones
        values = np.linalg.lstsq(weighed, np.ones(len(totals)), rcond=None)[0] if used else np.zeros(0)
        left = float(np.sum((weighed @ values - 1) ** 2))
        if (values >= 0).all() and left < least - 1e-12:
            best, least = np.zeros(len(scale)), left
            best[used] = values
    return [float(value) for value in best / scale]


def _tasks(folder: Path, runs: int, sizes: Sequence[int], **remote: Any) -> dict[str, Any]:
    """Return processor seconds of tasks by what they do, and what a process of one holds."""
    found: dict[str, Any] = {"anon": 0, "open": 0}
    for task, kind in (("batch", "f4"), ("group", "f8")):
        rows, points = [], []
        for nbytes, count in itertools.product(sizes, COUNTS):
            names = [f"{kind}-{nbytes}/client{number:05d}.h5" for number in range(count)]
            told = {"do": task, "urls": names, "folder": str(folder), "runs": runs, **remote}
            one = _run(folder, told)
            wide = nbytes * (2 if kind == "f4" else 1)
            rows.append((one["cpu"], (count, count * nbytes, wide, 1)))
            points.append({"archives": count, "nbytes": nbytes, "cpu": one["cpu"], "anon": one["anon"]})
            found["anon"] = max(found["anon"], one["anon"])
            found["open"] = max(found["open"], one["files"])
        costs = fit(rows)
        found[task] = dict(zip(("archive", "byte", "written", "task"), costs, strict=True)) | {
            "points": points
        }
    return found


def _remote_tasks(folder: Path, runs: int, sizes: Sequence[int]) -> dict[str, Any]:
    from tests.servers.proxy import Proxy
    from tests.servers.s3 import BUCKET, s3_server

    with s3_server() as server, Proxy(server.endpoint) as proxy:
        for path in folder.glob("f?-*/*.h5"):
            key = str(path.relative_to(folder))
            server.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        options = server.options(proxy.endpoint)
        return _tasks(folder, runs, sizes, bucket=f"s3://{BUCKET}", options=options)


def _functions(folder: Path, runs: int, nbytes: int) -> dict[str, Any]:
    """Return seconds an archive of the functions over many, of files in the page cache."""
    place = folder / "many"
    for number in range(MANY):
        _save(place / f"client{number:05d}.h5", number, nbytes, "f4")
    found = {}
    for name in FUNCTIONS:
        told = [_run(folder, {"do": name, "folder": str(folder)}) for _ in range(runs)]
        best = min(told, key=lambda one: one["cpu"])
        each = {key: best[key] / MANY for key in ("seconds", "cpu")}
        found[name] = each | {
            "anon": max(one["anon"] for one in told),
            "open": max(one["files"] for one in told),
        }
    shutil.rmtree(place)
    return found


def _caller() -> dict[str, float]:
    """Return what a name costs the caller of a mean: found, cut into batches, held."""
    before, begin = resident_anonymous_bytes(os.getpid()), time.process_time()
    inputs = find_inputs(f"s3://bucket/round-7/client-{number:07d}.h5" for number in range(NAMES))
    batches = cut_batches(inputs, [1.0] * NAMES, Rule(64), inputs[0].place, inputs[0].place, b"")
    spent, held = time.process_time() - begin, resident_anonymous_bytes(os.getpid()) - before
    return {"name": spent / NAMES, "name_bytes": held / NAMES, "batches": len(batches)}


def _overhead(path: Path) -> int:
    with archive.open(path) as handle:
        return path.stat().st_size - sum(handle[name].nbytes for name in handle)


def _save(path: Path, number: int, nbytes: int, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = nbytes // np.dtype(kind).itemsize // 20
    base = np.random.default_rng(7).standard_normal(size, "f4").astype(kind)

    def layers() -> Iterator[tuple[str, Any]]:
        for layer in range(20):
            yield f"layer{layer:03d}.weight", base + np.float32(number + layer)

    archive.save(layers(), path, durable=False, metrics={"num-examples": number + 1})


def _run(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    told = folder / "case.json"
    told.write_text(json.dumps(case))
    command = [sys.executable, "-m", "benchmarks.scale.costs", "--child", str(told)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        peaks = watch(child)
        output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{case['do']} ended with {child.returncode}")
    return json.loads(output.splitlines()[-1]) | {"anon": peaks.anon, "files": peaks.files}


def _child(case: dict[str, Any]) -> dict[str, float]:
    """Do what is measured, as often as the case says; the least counts."""
    found = []
    for number in range(case.get("runs", 1)):
        call = {"batch": _batch, "group": _group}.get(case["do"], _function)(case, number)
        begin, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.process_time() - cpu, time.perf_counter() - begin))
    return {"cpu": min(cpu for cpu, _ in found), "seconds": min(seconds for _, seconds in found)}


def _batch(case: dict[str, Any], number: int) -> Any:
    options, root = case.get("options"), case.get("bucket", case["folder"])
    inputs = find_inputs([f"{root}/{name}" for name in case["urls"]], options)
    reader = open_reader(inputs[0].place, access="auto", verify="first")
    identity = reader.identity
    reader.close()
    scratch = parse_url(f"{root}/scratch-{os.getpid()}-{number}", options)
    if not scratch.remote:
        Path(scratch.path).mkdir()
    (batch,) = cut_batches(inputs, [1.0] * len(inputs), Rule(64), scratch, inputs[0].place, identity)
    return lambda: sum_batch(batch)


def _group(case: dict[str, Any], number: int) -> Any:
    options, root = case.get("options"), case.get("bucket", case["folder"])
    places = [parse_url(f"{root}/{name}", options) for name in case["urls"]]
    scratch = parse_url(f"{root}/scratch-{os.getpid()}-{number}", options)
    if not scratch.remote:
        Path(scratch.path).mkdir()
    children = [Partial(place, str(at), Fraction(1)) for at, place in enumerate(places)]
    return lambda: sum_group(Group(0, children, scratch))


def _function(case: dict[str, Any], number: int) -> Any:
    folder = Path(case["folder"])
    urls, out = f"{folder}/many/*.h5", folder / f"mean-{os.getpid()}.h5"

    def accumulator() -> None:
        sums = archive.tools.Accumulator(folder / f"sums-{os.getpid()}", durable=False)
        for path in sorted((folder / "many").iterdir()):
            sums.add(path, "num-examples")
        sums.mean(out, durable=False)

    return {
        "table": lambda: archive.table(urls),
        "verify": lambda: [archive.verify(path) for path in sorted((folder / "many").iterdir())],
        "stats": lambda: archive.tools.stats(urls),
        "mean": lambda: archive.mean(urls, "num-examples", out=out, durable=False),
        "accumulator": accumulator,
    }[case["do"]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.costs", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of which the least counts; default: 3")
    parser.add_argument("--folder", help="where archives are written")
    parser.add_argument("--out", help=f"write the costs there, as {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
