"""``fedarchive demo``: the whole main job on a model trained on the spot."""

from __future__ import annotations

import argparse
import errno
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import archive
from archive.cli.exits import DAMAGED, OK
from archive.cli.ls import list_arrays
from archive.cli.output import is_text, show
from archive.cli.text import columns, printable, save_facts, shape, size
from archive.errors import (
    DamagedError,
    DigestError,
    ExistsError,
    HostileFileError,
    MissingError,
    NotAnArchiveError,
    TruncatedError,
    UnsupportedURLError,
    VersionError,
)
from archive.storage.url import parse_url

if TYPE_CHECKING:
    from archive.cli.training import Round

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Train a small network on three clients by federated averaging (numpy only, nothing is downloaded), save
it as an archive, open it, read it array by array, verify it, flip a byte of a copy and see the damaged
array named, and list the file with a plain HDF5 tool.

JSON: path; rounds, a list of {round, accuracy, loss}; save, verify as the commands reindex and verify
print them; open_seconds; arrays as ls prints them; damage {offset, array, message}.
CSV: a row for each round."""

_MARK = "fedarchive-demo"
"""Name of the config record by which a later demo knows that the file may be replaced."""

Log = Callable[[str], object]


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--out", metavar="PATH", default="fedarchive-demo.h5", help="the archive; default: %(default)s"
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_count, default=6, help="rounds to train; default: %(default)s"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the main job."""
    log: Log = print if is_text(arguments) else _log_nothing
    out: str = arguments.out
    _refuse_other_files(out)
    facts: dict[str, Any] = {}
    last = _train(arguments.rounds, facts, log)
    _save(last, out, facts, log)
    path: str = facts["path"]
    _read(path, facts, log)
    report = archive.verify(path)
    facts["verify"] = {"path": path, **asdict(report), "error": None}
    log(f"\nVerified: {'ok' if report.ok else 'DAMAGED'}, {size(report.checked_bytes)} compared with digests")
    found = _damage_a_copy(facts, log)
    if is_text(arguments):
        # flush: the other program prints next
        print("\nThe same file, read by a program that knows nothing of this library:", flush=True)
        _list_with_another_reader(out, path)
        _print_next_steps(out, path)
    show(arguments, facts, [], rows=facts["rounds"])
    return OK if report.ok and found else DAMAGED


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_count.__name__ = "number of rounds"  # argparse says "invalid number of rounds value: 'x'"


def _log_nothing(line: str) -> None:
    del line


def _refuse_other_files(out: str) -> None:
    """Raise for a URL, and for a file that no demo wrote: it may be somebody's round 80."""
    if parse_url(out).remote:
        raise UnsupportedURLError(
            "the demo damages a copy of a local file",
            path=parse_url(out).display,
            remedy="name a path with --out",
        )
    try:
        with archive.open(out) as handle:
            ours = _MARK in handle.records
    except MissingError:
        return
    except (NotAnArchiveError, DamagedError, HostileFileError, TruncatedError, VersionError):
        ours = False
    if not ours:
        raise ExistsError(
            "a file is there that no demo wrote",
            path=out,
            errno=errno.EEXIST,
            remedy="name another one with --out",
        )


def _train(rounds: int, facts: dict[str, Any], log: Log) -> Round:
    from archive.cli.training import CLIENTS, train  # numpy; --help does without

    log(f"Training: {CLIENTS} clients, noisy 8x8 digits, a 64-32-10 network, federated averaging")
    facts["rounds"] = []
    for last in train(rounds):
        log(f"  round {last.number:2}  accuracy {last.accuracy:.3f}  loss {last.loss:.3f}")
        facts["rounds"].append({"round": last.number, "accuracy": last.accuracy, "loss": last.loss})
    return last


def _save(last: Round, out: str, facts: dict[str, Any], log: Log) -> None:
    records = _records(last, facts["rounds"])
    report = archive.save(records, out)
    facts["path"], facts["save"] = report.url, save_facts(report)
    log(
        f"\nSaved: {printable(out)}, {report.arrays} arrays of {size(report.array_bytes)} "
        f"in a file of {size(report.file_bytes)}, {report.seconds * 1000:.1f} ms"
    )


def _records(last: Round, rounds: list[dict[str, Any]]) -> archive.RecordSet:
    """Return what a server would keep of this round."""
    import ml_dtypes
    import numpy as np

    from archive.cli.training import CLIENTS, LEARNING_RATE, SEED

    arrays = {
        **last.weights,
        "fc1.weight.bf16": last.weights["fc1.weight"].astype(ml_dtypes.bfloat16),
        "step": np.array(last.steps, np.int64),
    }
    return archive.RecordSet(
        {"model": archive.ArrayRecord({key: archive.Array(array) for key, array in arrays.items()})},
        {
            "test": archive.MetricRecord(
                {
                    "accuracy": [after["accuracy"] for after in rounds],
                    "loss": [after["loss"] for after in rounds],
                }
            )
        },
        {
            _MARK: archive.ConfigRecord(
                {
                    "strategy": "FedAvg",
                    "rounds": len(rounds),
                    "clients": CLIENTS,
                    "learning_rate": LEARNING_RATE,
                    "seed": SEED,
                }
            )
        },
    )


def _read(path: str, facts: dict[str, Any], log: Log) -> None:
    import numpy as np

    started = time.perf_counter()
    handle = archive.open(path)
    facts["open_seconds"] = time.perf_counter() - started
    with handle:
        record: Any = handle.records["model"]
        facts["arrays"] = list_arrays("model", record, offsets=True)
        log(f"Opened in {facts['open_seconds'] * 1000:.1f} ms; it lists its arrays, and has read none:")
        log("  " + ", ".join(record))
        log("\nRead one by one; bytes are checked before they are handed out:")
        rows = []
        for key, array in record.items():
            elements = array.numpy()
            norm = float(np.linalg.norm(elements.astype(np.float64)))
            rows.append([key, array.dtype, shape(array.shape), f"norm {norm:.4f}"])
        for line in columns(rows, "  "):
            log(line)
        corner = ", ".join(f"{value:.4f}" for value in handle["fc2.weight"][3, :4])
        log(f"  a slice, fc2.weight[3, :4]: {corner}")


def _damage_a_copy(facts: dict[str, Any], log: Log) -> bool:
    """Flip a byte in a copy, and return whether reading it named the array."""
    listed = {entry["key"]: entry for entry in facts["arrays"]}
    victim, offset = "fc2.weight", listed["fc2.weight"]["offset"] + 100
    with tempfile.TemporaryDirectory(prefix="fedarchive-demo-") as folder:
        copy = Path(folder, "copy.h5")
        damaged = bytearray(Path(facts["path"]).read_bytes())
        damaged[offset] ^= 0xFF
        copy.write_bytes(damaged)
        log(f"\nByte {offset} flipped in a copy, then {victim} read from it:")
        try:
            with archive.open(copy) as handle:
                handle[victim].numpy()
        except DigestError as error:
            facts["damage"] = {"offset": offset, "array": error.key, "message": error.problem}
            log(f"  DigestError: {error.key!r}: {error.problem} (at byte {error.offset})")
            return True
    facts["damage"] = {"offset": offset, "array": None, "message": "the damage was not found"}
    log("  read without complaint: this is a bug, please report it")
    return False


def _list_with_another_reader(out: str, path: str) -> None:
    """Let ``h5ls`` list the file, or h5py in a process of its own, which never loads this package."""
    tool = shutil.which("h5ls")
    if tool:
        command = [tool, "-r", path]
        print("  h5ls -r", shlex.quote(printable(out)))
    else:
        command = [sys.executable, "-c", "import h5py, sys; h5py.File(sys.argv[1]).visititems(print)", path]
        print("  h5py.File(...).visititems(print)")
    # Arguments are a list and the path is absolute: no shell, and it cannot be taken for an option.
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)  # noqa: S603
    for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines():
        print("   ", printable(line))


def _print_next_steps(out: str, path: str) -> None:
    quoted = shlex.quote(printable(out))
    python = shlex.quote(sys.executable)
    # a virtual environment that is not active is not on PATH
    program = "fedarchive" if shutil.which("fedarchive") else f"{python} -m archive"
    reading = "import archive, sys; print(archive.open(sys.argv[1])['fc1.bias'].numpy())"
    print(f"\nThe archive is {printable(path)}. Next:")
    print(f"  {program} info {quoted}")
    print(f"  {program} ls {quoted} --long")
    print(f"  {program} verify {quoted}")
    print(f'  {python} -c "{reading}" {quoted}')
