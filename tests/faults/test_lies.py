"""Replies that are not S3's: a success that nothing shows is never taken for one.

Each operation of the protocol that a scenario makes is answered by a page, by nothing, by another document or
by the reply to another key: once or always, alone or together with HEAD, whether the server gets the request
or not. The whole product runs in `poe slow`, a sample in `poe check`.
"""

from __future__ import annotations

import gc
import re
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import tuning
from archive.errors import ArchiveError, NotAnArchiveError, StorageError
from archive.storage.location import locate_store
from archive.storage.remote import upload
from archive.storage.remote.clients import proofs
from archive.storage.remote.clients.retry import POLICY, retried
from archive.storage.remote.clients.s3 import S3Store
from archive.storage.url import parse_url
from archive.tools.collection import collect_garbage
from tests.children import join_threads
from tests.faults.broken import Bench, arrays_of, benches
from tests.servers.lies import PAGES, has_document, operation_of, replies_to
from tests.servers.proxy import Fault, Request
from tests.servers.s3 import BUCKET, S3Server

OLD = b"old"
CREATED = "2026-01-01T00:00:00Z"
LARGE = arrays_of(1)
SMALL = {"a": LARGE["a1"][:100]}
MIDDLE = {"a": LARGE["a1"][:8000]}
"""More than has its ETag computed here."""


@dataclass
class Case:
    """Which replies are lies."""

    scenario: str
    operations: tuple[str, ...]
    """Those that are lied about; all if empty."""
    reply: str
    forward: bool = False
    """Whether the server gets the request."""
    once: bool = False

    def lies_about(self, operation: str) -> bool:
        """Tell whether requests of an operation get a reply that is not theirs."""
        return operation in self.operations or not self.operations


PROOFS = {
    "PutObject": "HeadObject",
    "CompleteMultipartUpload": "HeadObject",
    "DeleteObject": "HeadObject",
    "AbortMultipartUpload": "ListParts",
    "CreateMultipartUpload": "ListMultipartUploads",
}
"""What is asked where the reply to an operation proves nothing."""


@dataclass
class Run:
    """What a scenario works with."""

    bench: Bench
    folder: Path
    given: dict[str, Any] | None = None
    """What a consuming save was given."""
    created: str = CREATED

    @property
    def store(self) -> tuple[Any, str]:
        """Return the client behind the proxy, and the path of the object."""
        return locate_store(parse_url(self.bench.url, self.bench.options))

    @property
    def parent(self) -> str:
        """Return the path of the folder of the object."""
        return f"{BUCKET}/{self.bench.key.rpartition('/')[0]}"

    def save(self, arrays: dict[str, Any], **settings: Any) -> None:
        """Save to the object."""
        options = {"created": self.created, "storage_options": self.bench.options, **settings}
        archive.save(arrays, self.bench.url, **options)

    def consume(self, arrays: dict[str, Any]) -> None:
        """Save and let go of what was given."""
        self.given = dict(arrays)
        self.save(self.given, keep_input=False, spool=self.folder)


@dataclass
class Scenario:
    """Something that is done to a server, and what must be so afterwards if it succeeded."""

    act: Callable[[Run], Any]
    arrays: dict[str, Any] | None = None
    """What is saved; None where nothing is."""
    old: bytes | None = OLD
    """What lies there before; None for nothing."""
    prove: Callable[[Run, Any], bool] = lambda run, value: True
    uploads: bool = True
    """Whether what is begun is to be ended, whatever happens."""
    blind: tuple[tuple[str, str], ...] = ()
    """Operation and reply that nothing in S3's protocol tells from a true one."""


def stop(run: Run) -> None:
    """Send some parts, as a save that fails later, and end the upload."""
    store, path = run.store
    sink = upload.RemoteSink(store, path, overwrite=True)
    try:
        sink.write(LARGE["large"], 0)
    finally:
        sink.discard()


def gone(run: Run, _: Any) -> bool:
    """Tell whether the object is gone."""
    return run.bench.get() is None


def load(run: Run) -> dict[str, bytes]:
    """Load the object."""
    records = archive.load(run.bench.url, storage_options=run.bench.options)
    return {key: array.numpy().tobytes() for key, array in records.array_records["model"].items()}


def pend(run: Run) -> list[str]:
    """List uploads, one of which was begun."""
    store, path = run.store
    target = {"Bucket": BUCKET, "Key": run.bench.key}
    begun = run.bench.server.client.create_multipart_upload(**target)["UploadId"]
    try:
        return [pending.upload for pending in store.list_multipart(path) if pending.upload == begun]
    finally:
        run.bench.server.client.abort_multipart_upload(**target, UploadId=begun)


def tidy(run: Run) -> int:
    """Abort an upload that somebody left behind."""
    run.bench.server.client.create_multipart_upload(Bucket=BUCKET, Key=run.bench.key)
    return len(collect_garbage(f"s3://{run.parent}", older_than=0.0, storage_options=run.bench.options))


SCENARIOS = {
    "put": Scenario(lambda run: run.save(SMALL), SMALL),
    "put, asked": Scenario(lambda run: run.save(MIDDLE), MIDDLE),
    "put, new": Scenario(lambda run: run.save(SMALL, overwrite=False), SMALL, None),
    "parts": Scenario(lambda run: run.save(LARGE), LARGE),
    "parts, new": Scenario(lambda run: run.save(LARGE, overwrite=False), LARGE, None),
    "consumed": Scenario(lambda run: run.consume(SMALL), SMALL),
    "consumed, parts": Scenario(lambda run: run.consume(LARGE), LARGE),
    "stopped": Scenario(stop),
    "remove": Scenario(
        lambda run: run.store[0].delete(run.store[1]),
        prove=gone,
        blind=(("DeleteObject", "other"), ("DeleteObject", "no content")),
    ),
    "list": Scenario(
        lambda run: [(entry.path, entry.nbytes) for entry in run.store[0].list(run.parent)],
        prove=lambda run, found: found == [(run.bench.key.rpartition("/")[2], len(OLD))],
    ),
    "pending": Scenario(pend, prove=lambda run, found: len(found) == 1),
    "tidy": Scenario(
        tidy,
        uploads=False,
        prove=lambda run, found: found == 1 and not run.bench.server.uploads(run.bench.key),
        blind=(("AbortMultipartUpload", "other"), ("AbortMultipartUpload", "no content")),
    ),
    "head": Scenario(
        lambda run: run.store[0].head(run.store[1]).nbytes,
        prove=lambda run, found: found == len(OLD),
        blind=(("HeadObject", "other"), ("HeadObject", "file")),
    ),
    "load": Scenario(
        load,
        prove=lambda run, found: found == {"a": SMALL["a"].tobytes()},
        blind=(("GetObject", "other"),),
    ),
}


@pytest.fixture
def run(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A bench with small parts and short waits; a server that lies does so at once, however busy."""
    assert retried.__kwdefaults__ is not None
    monkeypatch.setitem(
        retried.__kwdefaults__, "policy", replace(POLICY, patience=30.0, first_wait=0.001, reach=1.0)
    )
    monkeypatch.setattr(tuning, "PART_BYTES", 60 << 10)
    monkeypatch.setattr(upload, "MiB", 1)
    monkeypatch.setattr(S3Store, "min_part_bytes", 60 << 10)
    monkeypatch.setattr(proofs, "HASHED_BYTES", 20 << 10)
    gc.collect()
    gc.freeze()  # what is collected between two cases is theirs alone
    with benches(server, uuid.uuid4().hex, 1, silence=30.0) as made:
        (tmp_path / "spool").mkdir()
        yield Run(made[0], tmp_path / "spool")
    gc.unfreeze()


def archived(arrays: dict[str, Any], folder: Path) -> bytes:
    """Return the bytes of an archive."""
    archive.save(arrays, folder / "expected.h5", created=CREATED)
    return (folder / "expected.h5").read_bytes()


def prepare(run: Run, name: str) -> None:
    """Put there what lies there before, and forget what is known of the server."""
    gc.collect()  # an upload that could not be ended is tried again, and not within another case
    join_threads("fedarchive-abort")
    old = SCENARIOS[name].old
    if name == "load":
        old = archived(SMALL, run.folder.parent)
    run.bench.put(old) if old else run.bench.remove()
    run.given = None
    if name.endswith("new"):
        run.store[0]._exclusive.clear()  # whether a store is exclusive is asked once


def record(run: Run, name: str) -> dict[str, bytes]:
    """Return replies by operation, the last of each, to an undisturbed run: another key, other bytes."""
    bench = run.bench
    folder, _, key = bench.key.rpartition("/")
    bench.key, run.created = f"other-{folder}/{key}", "2025-01-01T00:00:00Z"
    try:
        prepare(run, name)
        bench.proxy.reset(lambda request: "keep")
        SCENARIOS[name].act(run)
        bench.put(OLD)
        run.store[0].head(run.store[1])
        return {operation_of(seen.method, seen.target): seen.reply for seen in bench.proxy.seen}
    finally:
        bench.remove()
        bench.key, run.created = f"{folder}/{key}", CREATED


def count(run: Run, name: str) -> Counter[str]:
    """Return the operations of an undisturbed run."""
    prepare(run, name)
    run.bench.proxy.reset()
    SCENARIOS[name].act(run)
    return Counter(operation_of(seen.method, seen.target) for seen in run.bench.proxy.seen)


def cases_of(run: Run, name: str) -> list[Case]:
    """Return every lie about every operation of a scenario."""
    cases = [Case(name, (), reply) for reply in PAGES]
    for operation in count(run, name):
        proof = PROOFS.get(operation)
        for reply in [*replies_to(operation), "other"]:
            cases.append(Case(name, (operation,), reply, once=True))
            for forward in (False, True):
                cases.append(Case(name, (operation,), reply, forward))
                if proof:
                    cases.append(Case(name, (operation, proof), reply, forward))
        if has_document(operation):
            cases += [Case(name, (operation,), "truncated", True, once) for once in (True, False)]
    return cases


def plan_of(case: Case, others: dict[str, bytes]) -> Callable[[Request], Fault | str | None]:
    """Return what the proxy is to do."""
    lied: list[str] = []

    def plan(request: Request) -> Fault | str | None:
        operation = operation_of(request.method, request.target)
        if not case.lies_about(operation) or (case.once and lied):
            return None
        if case.reply == "truncated":
            lied.append(operation)
            return "short-honest"
        found = others.get(operation) if case.reply == "other" else replies_to(operation).get(case.reply)
        if found is None:
            return None
        lied.append(operation)
        return Fault("lie", reply=found, forward=case.forward)

    return plan


def judge(run: Run, case: Case, others: dict[str, bytes], new: bytes | None) -> str:
    """Run a case; return why it is wrong, or nothing."""
    scenario, bench = SCENARIOS[case.scenario], run.bench
    prepare(run, case.scenario)
    bench.proxy.reset(plan_of(case, others))
    error: ArchiveError | None = None
    value = None
    try:
        value = scenario.act(run)
    except ArchiveError as caught:
        error = caught
    except Exception:  # noqa: BLE001 - whatever it is, it is the defect that is looked for
        return traceback.format_exc(limit=-4)
    finally:
        bench.proxy.plan = None
    if error is not None:
        defect = untyped(run, error)
    else:
        blind = any((operation, case.reply) in scenario.blind for operation in case.operations or ("",))
        blind |= not case.operations and any(reply == case.reply for _, reply in scenario.blind)
        defect = "" if blind or scenario.prove(run, value) else f"it returned {value!r}"
    if new is not None:
        found = bench.get()
        if error is None and found != new:
            defect = "it returned, and the object is not there"
        elif found not in (scenario.old, new):
            defect = "neither the old object nor the new one"
        defect = defect or lost(run, error, scenario.arrays or {})
    uploads = left(run, case)
    return defect or (uploads if scenario.uploads else "")


def untyped(run: Run, error: ArchiveError) -> str:
    """Return what is missing from an error."""
    if run.bench.key.rpartition("/")[0] not in (error.path or ""):
        return f"an error that names no object: {error!r}"
    if re.search(r"KeyError|TypeError|AttributeError|IndexError", f"{error} {error.__cause__!r}"):
        return f"an error of ours inside: {error!r}"
    return ""


def lost(run: Run, error: ArchiveError | None, arrays: dict[str, Any]) -> str:
    """Return what is wrong with a consumed input: after an error it is here, or in the partial file."""
    if run.given is None or error is None:
        return ""
    found = dict(run.given)
    if error.partial:
        if error.partial not in str(error):
            return f"the error does not name {error.partial}: {error}"
        found |= {
            key: array.numpy() for key, array in archive.recover(error.partial).array_records["model"].items()
        }
    for path in run.folder.iterdir():
        path.unlink()
    return (
        ""
        if found.keys() == arrays.keys() and all(map(np.array_equal, found.values(), arrays.values()))
        else "the input is gone"
    )


def left(run: Run, case: Case) -> str:
    """Return what is wrong with uploads that are still there, and end them."""
    join_threads("fedarchive-abort")
    server = run.bench.server
    found = server.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    for pending in found:
        target = {"Bucket": BUCKET, "Key": pending["Key"], "UploadId": pending["UploadId"]}
        server.client.abort_multipart_upload(**target)
    # nobody heard of it; or the server never did
    unknown = case.lies_about("CreateMultipartUpload")
    unheard = case.lies_about("AbortMultipartUpload") and not case.forward and not case.once
    return f"{len(found)} uploads left behind" if found and not unknown and not unheard else ""


def judge_all(run: Run, names: list[str], every: int, figures: Callable[[str], None]) -> None:
    """Run every n-th case; print the figures, and fail where anything was wrong."""
    wrong, ran = [], 0
    for name in names:
        others = record(run, name)
        arrays = SCENARIOS[name].arrays
        new = archived(arrays, run.folder.parent) if arrays else None
        for case in cases_of(run, name)[::every]:
            ran += 1
            defect = judge(run, case, others, new)
            if defect:
                wrong.append(f"{case}: {defect}")
    figures(f"{names}: {ran} lies, {len(wrong)} believed")
    assert not wrong, f"{len(wrong)} of {ran}:\n" + "\n".join(wrong[:20])


def test_a_lie_is_not_believed(run: Run, figures: Callable[[str], None]) -> None:
    judge_all(run, ["put", "consumed, parts"], 61, figures)


REFUSED: dict[str, Callable[[Run], object]] = {
    "save": lambda run: run.save(SMALL),
    "create": lambda run: run.save(LARGE, overwrite=False),
    "remove": lambda run: run.store[0].delete(run.store[1]),
    "list": lambda run: list(run.store[0].list(run.parent)),
    "sweep": lambda run: collect_garbage(
        f"s3://{run.parent}", older_than=0.0, storage_options=run.bench.options
    ),
}


def test_what_is_no_server_is_called_so(run: Run) -> None:
    for reply, words in (("html", "it may not be an S3 server"), ("moved", "redirects every request: 301")):
        for act in REFUSED.values():
            run.bench.proxy.reset(lambda request, reply=reply: Fault("lie", reply=PAGES[reply]))
            with pytest.raises(StorageError, match=f"{words}; check endpoint_url"):
                act(run)
            assert len(run.bench.proxy.seen) <= 4


def test_what_is_no_server_holds_no_archive(run: Run) -> None:
    for reply in ("nothing", "html", "file"):
        run.bench.proxy.reset(lambda request, reply=reply: Fault("lie", reply=PAGES[reply]))
        for read in (archive.open, archive.load):
            with pytest.raises(NotAnArchiveError, match=run.bench.key):
                read(run.bench.url, storage_options=run.bench.options)


def test_who_may_not_look_believes_an_etag(run: Run) -> None:
    """Writing is allowed and reading is not, and the server's ETags are of its own making."""
    run.bench.proxy.reset(lambda request: "403 AccessDenied" if request.method == "HEAD" else None)
    run.save(MIDDLE)
    assert [request.method for request in run.bench.proxy.seen][:2] == ["PUT", "HEAD"]
    assert run.bench.get() == archived(MIDDLE, run.folder.parent)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_lie_is_believed(run: Run, name: str, figures: Callable[[str], None]) -> None:
    judge_all(run, [name], 1, figures)
