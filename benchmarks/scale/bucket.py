"""A bucket that is a folder: the part of S3 that readers use, with a latency, in a process of its own.

A listing takes as long as its page, not as its bucket: `moto` looks at every key for each page. Run as
``python -m benchmarks.scale.bucket FOLDER LATENCY`` it prints its port, and answers ``/requests`` with how
many requests of which kind came since it was asked last.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NAME = "bucket"
PAGE = 1000
LISTED = "listed.json"
"""A file of the folder: objects that are listed, and have no bytes: lengths by key."""


def tag_of(path: Path) -> str:
    """Return the ETag of an object."""
    status = path.stat()
    text = f"{path}{status.st_mtime_ns}{status.st_size}".encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def made_tag(key: str) -> str:
    """Return the ETag of an object that is listed, and not there."""
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


class Bucket:
    """Objects by key."""

    def __init__(self, folder: Path, latency: float) -> None:
        self.folder, self.latency = folder, latency
        self.seen: Counter[str] = Counter()
        self.sizes: dict[str, tuple[int, str]] = {}
        self.look()

    def look(self) -> None:
        """Find out what is in the folder."""
        self.sizes = {}
        for root, _, names in os.walk(self.folder):
            for name in names:
                path = Path(root, name)
                self.sizes[str(path.relative_to(self.folder))] = path.stat().st_size, tag_of(path)
        for key, nbytes in json.loads((self.folder / LISTED).read_text()).items():
            self.sizes[key] = nbytes, made_tag(key)
        self.keys = sorted(self.sizes)

    def list(self, query: dict[str, str]) -> bytes:
        """Return a page of a listing."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        at = max(bisect.bisect_left(self.keys, prefix), bisect.bisect_right(self.keys, after))
        parts: list[str] = []
        last = ""
        while at < len(self.keys) and self.keys[at].startswith(prefix) and len(parts) < PAGE:
            key = self.keys[at]
            inner, folder, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if folder:
                last = f"{prefix}{inner}{delimiter}\U0010ffff"
                parts.append(
                    f"<CommonPrefixes><Prefix>{escape(prefix + inner + delimiter)}</Prefix></CommonPrefixes>"
                )
                at = bisect.bisect_right(self.keys, last)
                continue
            nbytes, tag = self.sizes[key]
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-29T20:00:00.000Z</LastModified>"
                f"<ETag>&quot;{tag}&quot;</ETag><Size>{nbytes}</Size></Contents>"
            )
            last, at = key, at + 1
        more = at < len(self.keys) and self.keys[at].startswith(prefix)
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        return (
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>bucket</Name>"
            f"<Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{''.join(parts)}</ListBucketResult>"
        ).encode()

    def answer(self, method: str, target: str, asked: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        parts = urlsplit(target)
        key = unquote(parts.path).removeprefix(f"/{NAME}").removeprefix("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/requests":
            told, self.seen = self.seen, Counter()
            self.look()
            return 200, {}, json.dumps(told).encode()
        self.seen["list" if "list-type" in query else f"{method} object"] += 1
        if "list-type" in query:
            return 200, {"Content-Type": "application/xml"}, self.list(query)
        if key not in self.sizes:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
        nbytes, tag = self.sizes[key]
        headers = {"ETag": f'"{tag}"', "Last-Modified": "Sun, 29 Nov 2026 20:00:00 GMT"}
        found = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", asked)
        if not found:
            return 200, headers, (self.folder / key).read_bytes()
        first = int(found[1]) if found[1] else max(0, nbytes - int(found[2]))
        stop = min(int(found[2]) + 1, nbytes) if found[1] and found[2] else nbytes
        with (self.folder / key).open("rb") as file:
            file.seek(first)
            body = file.read(stop - first)
        return 206, headers | {"Content-Range": f"bytes {first}-{stop - 1}/{nbytes}"}, body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
                asked = re.search(r"(?i)\r\nrange: *([^\r]*)", head)
                status, headers, body = self.answer(method, target, asked[1] if asked else "")
                await asyncio.sleep(self.latency)
                lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {len(body)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


async def run(folder: Path, latency: float) -> None:
    """Serve until killed."""
    bucket = Bucket(folder, latency)
    server = await asyncio.start_server(bucket.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """Yield the endpoint of a bucket over a folder."""
    command = [sys.executable, "-m", "benchmarks.scale.bucket", str(folder), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{(process.stdout.readline() if process.stdout else '').strip()}"
        finally:
            process.kill()


def requests_of(endpoint: str) -> dict[str, int]:
    """Return how many requests of which kind came since this was asked last."""
    with urllib.request.urlopen(f"{endpoint}/requests") as answer:
        return dict(json.load(answer))


def options_of(endpoint: str) -> dict[str, Any]:
    """Return storage_options for it."""
    return {"anon": True, "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), float(sys.argv[2])))
