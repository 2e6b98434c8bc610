"""``python -m benchmarks.scale.alternatives``: a mean of client files, beside what people write today.

Each way is a process of its own, begun anew for each run, in turns; the fastest run counts. Its anonymous
memory is watched every 2 ms. The mean is compared with an exact one. Then each averages a few clients of
which one is damaged, or has a NaN. FEDARCHIVE_FLWR and FEDARCHIVE_DASK name environments with flwr, and with
dask and h5py (``python -m tests.interop.environments FOLDER REQUIREMENT`` makes one); what no interpreter has
is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import archive
from benchmarks.machine import machine_facts, versions
from benchmarks.process import read_afresh
from benchmarks.scale.averagers import AVERAGERS, sample
from benchmarks.scale.watching import watch
from benchmarks.tables import markdown

__all__ = ["Row", "exact_mean", "main", "save_clients"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "alternatives"
BASE = 1 << 20
FEW = 20
"""Clients of which one is damaged, or has a NaN."""
BAD = 11
"""Which of them."""
MOST = {"dask.array": 500}
"""Clients beyond which a way is not run: for 1,000 this one takes more than a minute of processor time."""


@dataclass(slots=True)
class Row:
    """What one way took, of one shape."""

    name: str
    shape: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    call: float = 0.0
    """Seconds of Flower's own call, when all clients were in memory."""
    anon: int = 0
    files: int = 0
    ulps: float = 0.0
    """Largest distance from the exact mean, in units of its last place of float32."""
    version: str = ""
    skipped: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write them where ``--out`` says."""
    options = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="fedarchive-alternatives-", dir=options.folder))
    words = [shlex.quote(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    pythons = {name: find_python(name) for name in AVERAGERS if not options.only or name in options.only}
    rows, bad = list[Row](), dict[str, dict[str, str]]()
    try:
        for clients, nbytes in options.shapes:
            save_clients(folder / "all", clients, nbytes)
            rows += _measure(folder, clients, nbytes, pythons, options.runs)
            if not bad:
                bad = {kind: _try_bad(folder, kind, nbytes, pythons) for kind in ("damaged", "NaN")}
            shutil.rmtree(folder / "all")
            _write(folder, words, options.out, rows, bad)  # after each shape: the next may be interrupted
    finally:
        shutil.rmtree(folder)
    return 0


def _write(
    folder: Path, words: Sequence[str], out: str, rows: Sequence[Row], bad: dict[str, dict[str, str]]
) -> None:
    found = {
        "moment": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(folder),
        "versions": versions("torch"),
        "command": " ".join(["python -m benchmarks.scale.alternatives", *words]),
        "rows": [asdict(row) for row in rows],
        "bad": bad,
    }
    text = as_markdown(found)
    print(text)
    if out:
        Path(out).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        Path(out).with_suffix(".md").write_text(text)


def save_clients(folder: Path, clients: int, nbytes: int, *, nan: int = -1, only: int = -1) -> None:
    """Write client files in every format."""
    for number in range(clients) if only < 0 else [only]:
        arrays = {key: values.copy() for key, values in _client(number, nbytes)}
        if number == nan:
            next(iter(arrays.values()))[5] = np.nan
        _save(folder, f"client{number:05d}", arrays)


def exact_mean(clients: int, nbytes: int) -> dict[str, Any]:
    """Return the sampled elements of the mean, in longdouble: products are exact in it, sums to 2e-17."""
    sums: dict[str, Any] = {}
    for number, weight in enumerate(weights_of(clients)):
        for key, values in _client(number, nbytes):
            product = sample(values).astype(np.longdouble) * np.longdouble(weight)
            sums[key] = sums[key] + product if key in sums else product
    return {key: values / sum(weights_of(clients)) for key, values in sums.items()}


def weights_of(clients: int) -> list[float]:
    """Return the examples of each client."""
    return [100.0 + number % 97 for number in range(clients)]


def _client(number: int, nbytes: int) -> Iterable[tuple[str, Any]]:
    """Yield 20 arrays that a client trained: values like those of weights."""
    arrays = 20
    size = nbytes // 4 // arrays
    base = np.random.default_rng(7).standard_normal(BASE, "f4") * np.float32(0.05)
    for layer in range(arrays):
        yield f"layer{layer:03d}.weight", np.resize(np.roll(base, 7919 * number + 104729 * layer), size)


def _save(folder: Path, name: str, arrays: dict[str, Any]) -> None:
    import h5py
    import torch
    from safetensors.numpy import save_file

    for kind in ("archive", "torch", "safetensors", "npz", "h5py"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    archive.save(arrays, folder / "archive" / f"{name}.h5", durable=False)
    tensors = {key: torch.from_numpy(values) for key, values in arrays.items()}
    torch.save(tensors, folder / "torch" / f"{name}.pt")
    save_file(arrays, folder / "safetensors" / f"{name}.safetensors")
    np.savez(folder / "npz" / f"{name}.npz", **arrays)
    with h5py.File(folder / "h5py" / f"{name}.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values


def find_python(name: str) -> str:
    """Return the interpreter of an averager; empty where none has its library."""
    distribution = AVERAGERS[name][1]
    given = os.environ.get(f"FEDARCHIVE_{distribution.upper()}", "") if distribution else ""
    pythons = [*(f"{place}/bin/python" for place in given.split(os.pathsep) if place), sys.executable]
    script = f"import numpy{', h5py, dask' if distribution == 'dask' else ''}, {distribution or 'archive'}"
    for python in pythons:
        if subprocess.run([python, "-c", script], cwd=ROOT, capture_output=True, check=False).returncode == 0:
            return python
    return ""


def _measure(folder: Path, clients: int, nbytes: int, pythons: dict[str, str], runs: int) -> list[Row]:
    shape = f"{clients:,} x {nbytes / 1e6:g} MB"
    exact = exact_mean(clients, nbytes)
    rows = {name: Row(name, shape) for name in pythons if name != "fedarchive, skip"}
    for name, row in rows.items():
        if not pythons[name]:
            row.skipped = f"no {AVERAGERS[name][1]}"
        elif clients > MOST.get(name, clients):
            row.skipped = f"for more than {MOST[name]} clients"
    ran = [name for name in rows if not rows[name].skipped]
    read_afresh(sorted((folder / "all").rglob("client*")))
    for _ in range(runs):
        for name in ran:
            row, (found, error) = rows[name], run_averager(name, pythons[name], folder, "all", clients)
            if error:
                row.skipped = error
                continue
            row.seconds.append(round(found["seconds"], 3))
            row.cpu.append(round(found["cpu"], 3))
            row.anon, row.files = max(row.anon, found["anon"]), max(row.files, found["files"])
            row.call, row.version = round(found.get("call", 0.0), 3), found["version"]
            row.ulps = max(row.ulps, _distance(folder / "samples.npz", exact))
    return list(rows.values())


def _distance(samples: Path, exact: dict[str, Any]) -> float:
    with np.load(samples) as file:
        pairs = zip([file[key] for key in file.files], exact.values(), strict=True)
        return round(max(_last_places(values, wanted) for values, wanted in pairs), 2)


def _last_places(values: Any, wanted: Any) -> float:
    """Return the largest difference, in units of the last place; near zero in those of a typical element."""
    typical = np.sqrt(np.mean(wanted * wanted))
    unit = np.spacing(np.maximum(np.abs(wanted), typical).astype("f4"))
    return float((np.abs(values - wanted) / unit).max())


def run_averager(
    name: str, python: str, folder: Path, clients_in: str, clients: int
) -> tuple[dict[str, Any], str]:
    """Run one in a process of its own; return what it found, or the error in which it ended."""
    case: dict[str, Any] = {
        "folder": str(folder / clients_in),
        "weights": weights_of(clients),
        "out": str(folder / "mean"),
        "samples": str(folder / "samples.npz"),
    }
    told, errors = folder / "case.json", folder / "errors"
    told.write_text(json.dumps(case | {"begun": time.time()}))
    command = [python, "-m", "benchmarks.scale.averagers", name, str(told)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FLWR_TELEMETRY_ENABLED": "0"}
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as child,
    ):
        peaks = watch(child)
        output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        return {}, (errors.read_text().strip().splitlines() or ["killed"])[-1]
    return json.loads(output.splitlines()[-1]) | asdict(peaks), ""


def _try_bad(folder: Path, kind: str, nbytes: int, pythons: dict[str, str]) -> dict[str, str]:
    """Average a few clients one of which is bad, and return what each way did."""
    place = folder / "few"
    for path in sorted((folder / "all").rglob("client*")):
        if int(path.stem[6:]) < FEW:
            target = place / path.relative_to(folder / "all")
            target.parent.mkdir(parents=True, exist_ok=True)
            if int(path.stem[6:]) != BAD:
                os.link(path, target)
    save_clients(place, FEW, nbytes, nan=BAD if kind == "NaN" else -1, only=BAD)
    if kind == "damaged":
        for path in place.rglob(f"client{BAD:05d}.*"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0x40
            path.write_bytes(content)
    outcomes = {}
    for name, python in pythons.items():
        if python:
            found, error = run_averager(name, python, folder, "few", FEW)
            outcomes[name] = _outcome(found, error)
    shutil.rmtree(place)
    return outcomes


def _outcome(found: dict[str, Any], error: str) -> str:
    if error:
        kind, _, text = error.partition(": ")
        named = f"client{BAD:05d}" in text
        return f"{kind.rpartition('.')[2]}, {'names the client' if named else 'names no client'}"
    if found.get("told"):
        return "; ".join(found["told"])
    return f"a mean with {found['nan']} NaN, nothing said" if found["nan"] else "a mean of it, nothing said"


def as_markdown(found: dict[str, Any]) -> str:
    """Return the tables."""
    machine, used = found["machine"], found["versions"]
    where = f"{machine['cpu']}, {machine['cores']} cores, load {machine['load'][0]:.0f}"
    lines = [
        "# Means of client files, beside what people write today",
        "",
        f"{found['moment']}; {where}; `{found['command']}`. The fastest of the runs, each in a fresh",
        "process (imports included), in turns; files in the page cache; other work shared the cores, so",
        "processor seconds say more than seconds. Memory is the peak of RssAnon. Distance is the largest",
        "from the exact mean, in units of the last place of float32 (of a typical element, for those near",
        "zero): 0.5 and less is correctly rounded. In brackets Flower's call alone, with all clients in",
        "memory already. fedarchive verifies every byte; of the others np.load alone compares a checksum,",
        "that of the zip file, from which Flower's clients come here too.",
        "",
    ]
    table = [["", "clients", "seconds", "processor s", "memory MB", "open files", "distance"]]
    for row in found["rows"]:
        if row["skipped"] or not row["seconds"]:
            table.append([row["name"], row["shape"], f"skipped: {row['skipped']}", *[""] * 4])
            continue
        seconds = f"{min(row['seconds']):.2f}" + (f" ({row['call']:.2f})" if row["call"] else "")
        memory = f"{row['anon'] / 1e6:,.0f}"
        numbers = [seconds, f"{min(row['cpu']):.2f}", memory, str(row["files"]), f"{row['ulps']:g}"]
        table.append([row["name"], row["shape"], *numbers])
    lines += [*markdown(table), "", f"One of {FEW} clients is bad:", ""]
    names = list(found["bad"].get("damaged", {}))
    outcomes = [["", "a flipped bit", "a NaN"]]
    outcomes += [[name, found["bad"]["damaged"][name], found["bad"]["NaN"][name]] for name in names]
    libraries = {row["name"].split()[0]: row["version"] for row in found["rows"] if row["version"]}
    words = ", ".join(f"{name} {version}" for name, version in (used | libraries).items())
    return "\n".join([*lines, *markdown(outcomes), "", words, ""])


def _shape(word: str) -> tuple[int, int]:
    clients, _, nbytes = word.partition("x")
    return int(clients), int(float(nbytes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.alternatives", description=__doc__)
    shapes = [(1000, 1_200_000), (20, 100_000_000)]
    parser.add_argument(
        "--shapes", nargs="+", type=_shape, default=shapes, metavar="CLIENTSxBYTES", help="as 1000x1.2e6"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of which the fastest counts; default: 3")
    parser.add_argument("--only", nargs="+", help=f"of: {', '.join(AVERAGERS)}")
    parser.add_argument("--folder", help="where the clients are written")
    parser.add_argument("--out", help=f"write the tables there, as {RESULTS.relative_to(ROOT)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
