"""``fedarchive cache``: list or remove what is cached of remote archives."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from archive.cli.exits import OK
from archive.cli.options import age, byte_count, folder
from archive.cli.output import show
from archive.cli.text import columns, moment, printable, size
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.storage.remote.cachefolder import CacheEntry

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
ls: one line for each cached version of an object: url, length, cached bytes, age, last use.
clear: remove them. A process that has a cached file open goes on reading it, and its space comes back when
that process closes it. prune: remove those that were used longest ago, and that no process has open, until
--max-bytes are kept. Files that are not of this cache are left alone.

JSON: dir, and entries (clear, prune: removed), a list of {url, tag, bytes, cached_bytes, created, used}; url
and tag are "" where the file that names them is gone. CSV: a row for each."""

_FIELDS = ["url", "tag", "bytes", "cached_bytes", "created", "used"]


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("action", choices=("ls", "clear", "prune"), help="list what is kept, or remove it")
    parser.add_argument(
        "--dir",
        metavar="DIR",
        type=folder,
        help="the folder; default: $FEDARCHIVE_CACHE, or the user's own",
    )
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=age,
        default=0.0,
        help="only what was last used longer ago: a number and s, m, h or d",
    )
    parser.add_argument(
        "--max-bytes",
        metavar="N",
        type=byte_count,
        help="of prune: bytes that are kept: a number, or one with k, M, G or T, such as 20G",
    )


def run(arguments: argparse.Namespace) -> int:
    """List or remove."""
    from archive.storage.remote.cachefolder import clear_cache, list_cache, prune_cache
    from archive.storage.url import parse_cache

    place = parse_cache(True if arguments.dir is None else arguments.dir)
    if (arguments.action == "prune") != (arguments.max_bytes is not None):
        problem = "prune and --max-bytes belong together"
        raise ArchiveError(problem, path=place, remedy="give both, such as: prune --max-bytes 20G")
    if arguments.action == "prune":
        entries = prune_cache(place, arguments.max_bytes, arguments.older_than)
    elif arguments.action == "clear":
        entries = clear_cache(place, arguments.older_than)
    else:
        latest = time.time() - arguments.older_than
        entries = [entry for entry in list_cache(place) if entry.used <= latest or not arguments.older_than]
    facts = [_facts(entry) for entry in entries]
    document = {"dir": place, "entries" if arguments.action == "ls" else "removed": facts}
    show(arguments, document, _lines(place, entries, arguments.action), rows=facts, fields=_FIELDS)
    return OK


def _lines(place: str, entries: Sequence[CacheEntry], action: str) -> Iterator[str]:
    now = time.time()
    if action == "ls" and entries:
        header = ["cached", "of", "age", "last use", "url"]
        yield from columns([header, *(_fields(entry, now) for entry in entries)], header=True)
    kept = size(sum(entry.cached_bytes for entry in entries))
    done = "keeps" if action == "ls" else "removed"
    yield f"{printable(place)}: {done} {len(entries)} versions, {kept}"


def _facts(entry: CacheEntry) -> dict[str, object]:
    facts = asdict(entry)
    times = {name: moment(facts.pop(name)) for name in ("created", "used")}
    del facts["name"]
    return {"url": facts.pop("url"), "tag": facts.pop("tag"), "bytes": facts.pop("nbytes"), **facts, **times}


def _fields(entry: CacheEntry, now: float) -> list[str]:
    return [
        size(entry.cached_bytes),
        size(entry.nbytes),
        _ago(now - entry.created),
        _ago(now - entry.used),
        printable(entry.url) or "unknown",
    ]


def _ago(seconds: float) -> str:
    """Return an age for people, in its largest unit."""
    for unit, nseconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= nseconds:
            return f"{int(seconds // nseconds)}{unit}"
    return f"{max(int(seconds), 0)}s"
