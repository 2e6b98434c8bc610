"""The command: ``python -m benchmarks.remote``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts, versions
from benchmarks.remote.peers import OPERATIONS, PEERS, Where
from tests.servers import ceph
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, REGION, S3Server

RESULTS = Path(__file__).resolve().parent.parent / "results"
PATIENCE = 45.0
"""Seconds for one run of one cell."""


@dataclass
class Row:
    """One library and one operation."""

    peer: str
    operation: str
    requests: int = 0
    nbytes: int = 0
    seconds: list[float] = field(default_factory=list)
    note: str = ""


class CellError(Exception):
    """A cell that did not do its work."""


def main() -> int:
    """Measure, print and write."""
    options = _parser().parse_args()
    with ExitStack() as stack:
        server = _server(stack)
        proxy = stack.enter_context(Proxy(server.endpoint))
        proxy.latency = options.latency / 1000
        where = Where(proxy.endpoint, BUCKET, server.key, server.secret, REGION)
        direct = replace(where, endpoint=server.endpoint)
        facts: dict[str, Any] = {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "server": server.name,
            "latency_ms": options.latency,
            "layers": options.layers,
            "runs": options.runs,
            "machine": machine_facts(Path(tempfile.gettempdir())),
            "versions": versions("fsspec", "s3fs", "obstore", "runai-model-streamer"),
        }
        ceilings = [_ceiling(direct, options)] if options.ceilings else []
        rows: list[Row] = []
        for peer in options.peers:
            rows += _peer(peer, proxy, where, direct, options)
            text = _write(options.out, rows, ceilings, facts)
    print(text)
    return 0


def _write(path: Path, rows: list[Row], ceilings: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Write after every library: a long run that is stopped has lost nothing."""
    facts["machine"]["load_after"] = [round(value, 2) for value in os.getloadavg()]
    text = _markdown(rows, ceilings, facts)
    cells = [asdict(row) for row in rows]
    found = {**facts, "cells": cells, "ceilings": ceilings}
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(text + "\n")
    return text


def _server(stack: ExitStack) -> S3Server:
    named = os.environ.get("FEDARCHIVE_S3")
    if named:
        return S3Server(*named.split())
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedarchive-bench-"))
    return stack.enter_context(ceph.running(Path(folder), memory=8 << 30))


def _peer(peer: str, proxy: Proxy, where: Where, direct: Where, options: argparse.Namespace) -> list[Row]:
    print(f"{peer} ...", file=sys.stderr, flush=True)
    task = {"peer": peer, "layers": options.layers}
    rows = []
    try:
        _run({**task, "operation": "save", "where": asdict(direct)}, proxy)
    except CellError as error:
        return [Row(peer, operation, note=str(error)) for operation in OPERATIONS]
    for operation in OPERATIONS:
        row = Row(peer, operation, note=PEERS[peer].without.get(operation, ""))
        rows.append(row)
        for _ in range(0 if row.note else options.runs):
            try:
                seconds = _run({**task, "operation": operation, "where": asdict(where)}, proxy)
            except CellError as error:
                row.note = str(error)
                break
            row.seconds.append(round(seconds, 4))
            row.requests = max(row.requests, len(proxy.seen))
            row.nbytes = max(row.nbytes, proxy.bytes_sent)
        print(f"  {operation}: {_cell(row)}", file=sys.stderr, flush=True)
    return rows


def _run(task: dict[str, Any], proxy: Proxy) -> float:
    """Run one cell; return its seconds. What it asked for is in the proxy."""
    command = [sys.executable, "-m", "benchmarks.remote.cell"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            first = json.loads(process.stdout.readline() or "{}")
            if first.get("ready"):
                proxy.reset()
                process.stdin.write("go\n")
                process.stdin.flush()
                first = json.loads(process.stdout.readline() or "{}")
        except BrokenPipeError:
            first = {}
        waiting = killer.is_alive()
        killer.cancel()
        process.kill()
    if "missing" in first:
        raise CellError(f"not installed: {first['missing']}")
    if not first:
        raise CellError("failed" if waiting else f"not done after {PATIENCE:.0f} s")
    if not first.get("right", True):
        raise CellError("read something else than was saved")
    return float(first.get("seconds", 0.0))


def _ceiling(where: Where, options: argparse.Namespace) -> dict[str, Any]:
    print("raw requests ...", file=sys.stderr, flush=True)
    task = {"where": asdict(where), "megabytes": options.megabytes, "runs": options.runs}
    command = [sys.executable, "-m", "benchmarks.remote.ceilings", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"client": "s3fs", "note": done.stderr.strip().rpartition("\n")[2][:200]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _markdown(rows: list[Row], ceilings: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    from benchmarks.remote.model import make_model

    arrays = make_model(facts["layers"]).values()
    nbytes = sum(values.nbytes for values in arrays)
    machine = facts["machine"]
    title = (
        f"# {len(arrays)} arrays, {nbytes / 1e6:.0f} MB, from {facts['server']}, "
        f"{facts['latency_ms']:g} ms added to each request"
    )
    about = (
        f"{facts['created']}; {machine['cpu']}, {machine['cores']} cores, shared: load "
        f"{machine['load'][0]} before, {machine['load_after'][0]} after. "
        f"Medians of {facts['runs']} processes; each had read a tiny model before. Server, proxy and client "
        "share the cores. one and slice include opening; slice is 100 rows of 30,522."
    )
    lines = [
        title,
        "",
        about,
        "",
        "| | " + " | ".join(f"{name}: requests, MB, s" for name in OPERATIONS) + " |",
        "|---" * (len(OPERATIONS) + 1) + "|",
    ]
    for peer in dict.fromkeys(row.peer for row in rows):
        cells = [_cell(row) for row in rows if row.peer == peer]
        lines.append(f"| {PEERS[peer].title} | " + " | ".join(cells) + " |")
    lines += ["", "Beside the same client's raw requests of 16 MiB, straight to the server:", ""]
    lines += ["| client | | raw s | ours s | raw/ours |", "|---|---|---|---|---|"]
    for ceiling in ceilings:
        if "note" in ceiling:
            lines.append(f"| {ceiling['client']} | {ceiling['note']} | | | |")
            continue
        for name in ("load", "save"):
            found = ceiling[name]
            raw, ours = statistics.median(found["raw"]), statistics.median(found["ours"])
            size = f"{name} {ceiling['nbytes'] / 1e6:.0f} MB"
            lines.append(f"| {ceiling['client']} | {size} | {raw:.2f} | {ours:.2f} | {found['ratio']:.2f} |")
    found_versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    return "\n".join([*lines, "", found_versions + "."])


def _cell(row: Row) -> str:
    if row.note:
        return row.note
    return f"{row.requests}, {row.nbytes / 1e6:.1f}, {statistics.median(row.seconds):.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=__doc__)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument(
        "--ceilings", action=argparse.BooleanOptionalAction, default=True, help="raw requests"
    )
    parser.add_argument("--latency", type=float, default=20, help="milliseconds added to each request (20)")
    parser.add_argument("--layers", type=int, default=24, help="size of the model (24: 289 arrays, 217 MB)")
    parser.add_argument("--megabytes", type=int, default=512, help="beside raw requests (512)")
    parser.add_argument("--runs", type=int, default=3, help="processes of each cell (3)")
    parser.add_argument("--out", type=Path, default=RESULTS / "remote", help="where .json and .md go")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
