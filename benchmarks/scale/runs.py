"""The history of a long run: built by direct means, read from files and from a bucket."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.checkpoints.catalogue import Catalogue, KnownRound
from archive.checkpoints.cataloguefile import write_catalogue
from archive.checkpoints.curve import Curve
from archive.checkpoints.filecontent import Content
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.knownrounds import read_known_rounds
from archive.checkpoints.paths import round_path
from archive.checkpoints.retention import Policy
from archive.checkpoints.roundfile import ClientFile, Past, client_marks, round_marks
from archive.checkpoints.rounds import Rounds
from archive.engine.write.plan import timestamp
from archive.engine.write.saving import SaveOptions, save_inputs
from archive.records import GC_THRESHOLD
from archive.storage.url import parse_url
from archive.tools.archivefacts import Facts
from archive.tools.columns import Row
from benchmarks.scale import bucket

METRICS = 20
LATENCY = 0.02
CLIENT_BYTES = 9000


def make_run(folder: Path, rounds: int, clients: int, *, whole: bool) -> None:
    """Write the files of a run; the newest round alone carries the metrics of all.

    Unless it is to be ``whole``, the files of clients are listed and not there: a catalogue knows them.
    """
    run, names = folder / "run", [f"client-{client:02d}" for client in range(clients)]
    (run / "rounds").mkdir(parents=True)
    listed: dict[str, int] = {}
    curve = Curve(
        tuple(range(1, rounds)),
        {("metrics", key): tuple([value] * (rounds - 1)) for key, value in _metrics(0).items()},
    )
    for number in range(1, rounds + 1):
        files = {name: _make_client(run, number, name, whole=whole) for name in names}
        past = Past(rounds - 1, None, curve) if number == rounds else Past()
        content = Content({"w": np.full(4, number)}, _metrics(number), {"lr": 0.1, "strategy": "FedAvg"})
        _save(content, round_marks(number, files, past, None, Policy(None, None)), run / round_path(number))
        listed |= {} if whole else {f"run/{file.path}": CLIENT_BYTES for file in files.values()}
    (folder / bucket.LISTED).write_text(json.dumps(listed))


def _make_client(run: Path, number: int, name: str, *, whole: bool) -> ClientFile:
    file = ClientFile(number, name, "", hashlib.md5(f"{number} {name}".encode()).hexdigest())
    if not whole:
        return file
    (run / file.path).parent.mkdir(exist_ok=True)
    content = Content({"w": np.zeros(4)}, {"loss": 0.5, "num-examples": number})
    return replace(file, digest=_save(content, client_marks(number, name, ""), run / file.path))


def _metrics(number: int) -> dict[str, float]:
    return {f"metric{place:02d}": number / (place + 1) for place in range(METRICS)}


def _save(content: Content, marks: Any, path: Path) -> str:
    options = SaveOptions(
        parse_url(path),
        timestamp("2026-11-29T12:00:00Z"),
        overwrite=True,
        durable=False,
        keep_input=True,
        spool=True,
        gc_threshold=GC_THRESHOLD,
        progress=None,
    )
    return save_inputs(content.inputs(marks), options).digest


def measure_histories(folder: Path, options: argparse.Namespace) -> Iterator[History]:
    """Yield each history with and without a catalogue; without one of 1/50 of the rounds alone."""
    rounds, clients = options.rounds or 10_000, options.clients or 20
    run = folder / "run"
    make_run(folder, rounds, clients, whole=False)
    write_bucket_catalogue(run)
    with bucket.serving(folder, LATENCY) as endpoint:
        for names in (False, True):
            yield _measure(endpoint, rounds, clients, names, options.runs)
    few = folder / "few"
    make_run(few, rounds // 50, clients, whole=True)
    with bucket.serving(few, LATENCY) as endpoint:
        for names in (False, True):
            yield _measure(endpoint, rounds // 50, clients, names, 1, known=False)


@dataclass(frozen=True)
class History:
    """How long a history took, and what it asked for."""

    rounds: int
    clients: bool
    catalogue: bool
    seconds: float
    cpu: float
    """Seconds of processor in the same run, of the reading process."""
    requests: dict[str, int]


def _measure(
    endpoint: str, rounds: int, clients: int, names: bool, runs: int, *, known: bool = True
) -> History:
    seconds = []
    for _ in range(runs):
        store = archive.CheckpointStore(
            f"s3://{bucket.NAME}/run", storage_options=bucket.options_of(endpoint)
        )
        bucket.requests_of(endpoint)
        begin, cpu = time.perf_counter(), time.process_time()
        table = store.history(clients=names)
        seconds.append((time.perf_counter() - begin, time.process_time() - cpu))
        if len(table["round"]) != rounds * (1 + clients * names):
            raise SystemExit(f"{len(table['round'])} rows")
        requests = bucket.requests_of(endpoint)
    return History(rounds, names, known, *min(seconds), requests)


def write_bucket_catalogue(run: Path) -> None:
    """Write the catalogue that a store in the bucket would have, whose files have ETags."""
    files, made = Rounds(run, None, None), Catalogue()

    def client(file: ClientFile) -> KnownFile:
        row: Row = {("metrics", "metrics", "loss"): 0.5, ("metrics", "metrics", "num-examples"): file.round}
        facts = Facts(row, "2026-11-29T12:00:00Z", CLIENT_BYTES, 1, file.digest)
        return KnownFile(facts, 2000, bucket.made_tag(f"run/{file.path}"))

    numbers = files.numbers()
    for at in range(0, len(numbers), 256):
        read = []
        for one in read_known_rounds(files, numbers[at : at + 256], {}):
            own = replace(one.file, tag=bucket.tag_of(run / round_path(one.number)))
            read.append(KnownRound(one.number, own, [(file, client(file)) for file, _ in one.clients]))
        made = made.updated(read, ())
    write_catalogue(parse_url(run), made)
