"""convert from object to object, and pages and commands about a run in objects: right, in few requests."""

from __future__ import annotations

import contextlib
import io
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.errors import DamagedError, MissingError
from archive.tools import convert, report
from tests.acceptance.samples import CREATED
from tests.servers.proxy import Fault, Proxy, Request
from tests.servers.s3 import BUCKET, S3Server

ARRAYS = 40
ROUNDS, CLIENTS = 3, 2


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with Proxy(server.endpoint) as proxy:
        yield proxy


def arrays_of(seed: int, shape: tuple[int, ...] = (30, 20)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {f"l{number:02d}.weight": rng.standard_normal(shape, dtype="f4") for number in range(ARRAYS)}


@pytest.mark.parametrize("name", ["m.safetensors", "m.safetensors.index.json", "m.npz"])
def test_from_object_to_object(server: S3Server, proxy: Proxy, name: str) -> None:
    """Read, written and read back in a few requests a file, not one an array."""
    folder, options = f"s3://{BUCKET}/{uuid.uuid4().hex}", server.options(proxy.endpoint)
    both: Any = {"storage_options": options, "out_options": options}
    arrays = arrays_of(1)
    archive.save(arrays, f"{folder}/first.h5", created=CREATED, storage_options=options)
    proxy.reset()
    there = convert(f"{folder}/first.h5", f"{folder}/{name}", **both)
    first = len(proxy.seen)
    proxy.reset()
    back = convert(f"{folder}/{name}", f"{folder}/back.h5", **both)
    assert (there.arrays, back.arrays, there.verified, back.verified) == (ARRAYS, ARRAYS, True, True)
    assert max(first, len(proxy.seen)) <= 20, "a shard and its index are looked for before they are written"
    found: Any = archive.load(f"{folder}/back.h5", storage_options=options)["model"]
    assert {key: found[key].numpy().tobytes() for key in found} == {
        key: array.tobytes() for key, array in arrays.items()
    }


def test_an_object_that_is_not_what_was_sent(server: S3Server, proxy: Proxy) -> None:
    """It is read back from the server: nobody trusts that what was sent has arrived."""
    folder, options = f"s3://{BUCKET}/{uuid.uuid4().hex}", server.options(proxy.endpoint)
    archive.save(arrays_of(1), f"{folder}/first.h5", storage_options=options)

    def change(request: Request) -> Fault | None:
        reads = request.method == "GET" and request.target.endswith("m.safetensors")
        return Fault("corrupt") if reads and int(request.range.partition("-")[2] or 0) > 50_000 else None

    proxy.reset(change)
    with pytest.raises(DamagedError, match="read back"):
        convert(
            f"{folder}/first.h5",
            f"{folder}/m.safetensors",
            storage_options=options,
            out_options=options,
        )


def test_nothing_appears_of_a_conversion_that_failed(server: S3Server, proxy: Proxy) -> None:
    folder, options = f"s3://{BUCKET}/{uuid.uuid4().hex}", server.options(proxy.endpoint)
    both: Any = {"storage_options": options, "out_options": options}
    with pytest.raises(MissingError):
        convert(f"{folder}/first.h5", f"{folder}/m.safetensors", **both)
    archive.save(arrays_of(1), f"{folder}/first.h5", storage_options=options)
    body = server.client.get_object(Bucket=BUCKET, Key=f"{folder[len(BUCKET) + 6 :]}/first.h5")["Body"].read()
    spoiled = bytearray(body)
    spoiled[8000] ^= 1
    server.client.put_object(Bucket=BUCKET, Key=f"{folder[len(BUCKET) + 6 :]}/first.h5", Body=bytes(spoiled))
    with pytest.raises(DamagedError):
        convert(f"{folder}/first.h5", f"{folder}/m.safetensors", **both)
    prefix = f"{folder[len(BUCKET) + 6 :]}/"
    assert (server.keys(prefix), server.uploads(prefix)) == ([f"{prefix}first.h5"], [])


@pytest.fixture
def runs(tmp_path: Path, server: S3Server) -> tuple[str, str]:
    """The folder of one run, in objects and as files."""
    places = f"s3://{BUCKET}/{uuid.uuid4().hex}/run", str(tmp_path / "run")
    for place in places:
        options = server.options() if place == places[0] else None
        store = archive.CheckpointStore(place, storage_options=options)
        for number in range(1, ROUNDS + 1):
            for client in range(CLIENTS):
                values = {"loss": 1 / number + client}
                store.save(arrays_of(10 * number + client), number, client=f"c{client}", metrics=values)
            store.save(arrays_of(10 * number + 9), number, metrics={"loss": 1 / number})
    return places


@pytest.mark.slow
def test_a_page_about_a_run_in_objects(
    tmp_path: Path, server: S3Server, proxy: Proxy, runs: tuple[str, str]
) -> None:
    """The page is a local file, and the same but for names and times; arrays come several at a time."""
    there, here = runs
    found = report(there, tmp_path / "there.html", title="t", storage_options=server.options(proxy.endpoint))
    assert found.failures == ()
    requests = len(proxy.seen)
    assert requests <= 10 * ROUNDS * (CLIENTS + 1) < ARRAYS * ROUNDS * (CLIENTS + 1) / 2
    report(here, tmp_path / "here.html", title="t")
    pages = [(tmp_path / name).read_text() for name in ("there.html", "here.html")]
    plain = [
        re.sub(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?( UTC)?", "TIME", page.replace(place, "RUN"))
        for page, place in zip(pages, runs, strict=True)
    ]
    assert plain[0] == plain[1]
    both = report(there, tmp_path / "both.html", compare=here, storage_options=server.options())
    assert both.failures == ()


@pytest.mark.slow
def test_commands_about_a_run_in_objects(server: S3Server, proxy: Proxy, runs: tuple[str, str]) -> None:
    """Each says what it says of the same files, in so many requests."""
    files = ROUNDS * (CLIENTS + 1)
    newest = f"rounds/{ROUNDS:08d}/c1.h5"
    most = {
        ("verify", ""): 3 * files,
        ("info", ""): files + ROUNDS + 6,
        ("runs", "ls"): files + ROUNDS + 6,
        ("verify", newest): 3,
        ("ls", newest): 1,
        ("info", newest): 1,
        ("stats", newest): 3,
    }
    for (command, rest), requests in most.items():
        told = []
        for place in runs:
            options = server.options(proxy.endpoint) if place == runs[0] else {}
            given = [
                text
                for key, value in options.items()
                for text in ("-o", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
            ]
            words = [rest, place] if command == "runs" else [f"{place}/{rest}".rstrip("/")]
            proxy.reset()
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                assert main([command, *words, *given]) == 0, (command, rest)
            if place == runs[0]:
                assert 0 < len(proxy.seen) <= requests, (command, rest)
            text = output.getvalue().replace(place, "RUN")
            text = re.sub(r"20\d\d-\S+|(access|verified) .*", "", text)
            told.append(re.sub(r"  +|-+", " ", text))
        assert told[0] == told[1], (command, rest)


@pytest.mark.slow
def test_a_table_of_a_run_in_objects(server: S3Server, proxy: Proxy, runs: tuple[str, str]) -> None:
    """One request an archive, and what lists them."""
    found = archive.table(f"{runs[0]}/rounds/*/c*.h5", storage_options=server.options(proxy.endpoint))
    assert found["loss"].tolist() == archive.table(f"{runs[1]}/rounds/*/c*.h5")["loss"].tolist()
    assert len(proxy.seen) <= ROUNDS * CLIENTS + 2
