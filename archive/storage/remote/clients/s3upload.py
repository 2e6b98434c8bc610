"""Objects that appear on an S3 server: uploads in parts, and answers that were lost on the way."""

from __future__ import annotations

import contextlib
import errno
import secrets
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from archive.errors import ArchiveError, StorageError
from archive.owner import Owner
from archive.storage.remote.clients.failures import exists_error, failure_of
from archive.storage.remote.clients.proofs import tag_of_parts, unproven
from archive.storage.remote.clients.retry import Fault, Kind, retried
from archive.storage.remote.clients.s3client import S3Client
from archive.storage.remote.objectstore import Buffer, PendingUpload, bare_tag
from archive.workers import run_apart

__all__ = ["S3Upload", "Written", "publish"]

UNSETTLED = (Kind.TRANSIENT, Kind.UNREACHABLE, Kind.NO_SUCH_SERVER, Kind.UNPROVEN)
"""Faults after which a request may have been applied, or not."""
CLOCK = 2.0
"""Seconds by which a server's date may be off: it comes in whole seconds."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an object is known by after it was written."""

    write: str
    """Id of the write, stored beside the object."""
    nbytes: int
    """Length."""
    tag: str
    """ETag that proves the write; empty where only the server knows one."""


class _Store(Protocol):
    """What is needed of an S3Store."""

    client: S3Client

    def url(self, path: str) -> str: ...
    def target(self, path: str) -> dict[str, Any]: ...
    def metadata(self, write: str) -> dict[str, str]: ...
    def is_ours(self, path: str, written: Written) -> bool | None: ...
    def abort(self, pending: PendingUpload) -> None: ...


def publish(
    store: _Store,
    path: str,
    written: Written,
    attempt: Callable[[float], dict[str, Any]],
    *,
    exclusive: bool,
    nbytes: int,
) -> None:
    """Make an object appear by ``attempt``, whose answers may be lost, or prove nothing.

    A request that was applied and whose answer was lost is refused when it is sent again: by its own
    precondition, or because its upload has ended. The id of the write, stored beside the object, tells
    (icechunk's design document 17 describes the case). Where an answer lacks the ETag of these very bytes,
    id and length are asked for once.

    Parameters
    ----------
    attempt : callable
        Sends the request within so many seconds and returns its answer.
    nbytes : int
        Bytes that the server moves before it answers.

    Raises
    ------
    ExistsError, StorageError
    """
    sent = acknowledged = False

    def once(seconds: float) -> None:
        nonlocal sent, acknowledged
        try:
            answer = attempt(seconds)
        except Fault as fault:
            sent = sent or fault.kind not in (Kind.UNREACHABLE, Kind.NO_SUCH_SERVER)
            if fault.kind not in (Kind.CONFLICT, Kind.MISSING):
                raise
            there = store.is_ours(path, written)
            if there:
                return
            if there is None and fault.status == 409:
                # two began at once and neither is there yet
                raise Fault(Kind.TRANSIENT, fault.problem, status=409) from fault
            raise
        sent = acknowledged = True
        if bare_tag(answer["ETag"]) != written.tag:
            raise unproven("and does not show the object")

    try:
        retried(once, store.client.contact, nbytes=nbytes)
    except Fault as fault:
        if fault.kind is Kind.CONFLICT and exclusive:
            raise exists_error(store.url(path)) from fault
        if fault.kind in UNSETTLED and sent:
            there = _look(store, path, written, fault, acknowledged)
            if there:
                return
            if there is False and exclusive and fault.kind is not Kind.UNPROVEN:
                raise exists_error(store.url(path)) from fault
        raise failure_of(fault, store.url(path)) from fault


def _look(store: _Store, path: str, written: Written, fault: Fault, acknowledged: bool) -> bool | None:
    """Tell whether an object is there that may have been published; None where nothing shows it."""
    try:
        return store.is_ours(path, written)
    except Fault as unseen:
        if acknowledged and unseen.kind is Kind.DENIED:
            return True  # who may write and not read has no better proof than any ETag
        if unseen.kind is fault.kind is Kind.UNPROVEN:
            return None
        raise StorageError(
            f"{fault.problem}; whether the object was published is not known",
            path=store.url(path),
            errno=errno.EIO,
            remedy="look whether it is there before you try again",
        ) from fault


class S3Upload:
    """An object that is sent in parts and appears when it is completed.

    Parameters
    ----------
    store : S3Store
    path : str
    """

    def __init__(self, store: _Store, path: str) -> None:
        self._store = store
        self._path = path
        self._owner = Owner(store.url(path))
        self._target = store.target(path)
        self._write = secrets.token_hex(16)
        self._tags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self._lost: list[float] = []
        self._upload = self._create()
        self._ended = False
        # not the upload itself: what refers to it would keep it
        self._abandoned = weakref.finalize(
            self, _abandon, store, PendingUpload(path, self._upload, 0.0), self._lost, self._owner
        )

    def put_part(self, number: int, data: Buffer) -> None:
        """Send part ``number``, from 1; sent again under the same number it replaces what was there."""
        self._owner.require_here()
        arguments = self._target | {"UploadId": self._upload, "PartNumber": number, "Body": data}
        nbytes = memoryview(data).nbytes
        answer = self._run(
            lambda seconds: self._store.client.call("upload_part", seconds, **arguments), nbytes
        )
        self._tags[number], self._sizes[number] = answer["ETag"], nbytes

    def complete(self, *, exclusive: bool) -> None:
        """Make the object appear. ``exclusive``: ExistsError where one is there already."""
        self._owner.require_here()
        tag = tag_of_parts(self._tags[number] for number in sorted(self._tags))
        publish(
            self._store,
            self._path,
            Written(self._write, sum(self._sizes.values()), tag),
            lambda seconds: self.send_complete(seconds, exclusive=exclusive),
            exclusive=exclusive,
            nbytes=64 << 20,  # servers may copy parts together before they answer
        )
        self._end()

    def send_complete(self, seconds: float, *, exclusive: bool) -> dict[str, Any]:
        """Send one request to complete, and return its answer.

        Raises
        ------
        Fault
        """
        parts = [{"PartNumber": number, "ETag": self._tags[number]} for number in sorted(self._tags)]
        arguments = self._target | {"UploadId": self._upload, "MultipartUpload": {"Parts": parts}}
        if exclusive:
            arguments["IfNoneMatch"] = "*"
        return self._store.client.call("complete_multipart_upload", seconds, **arguments)

    def abort(self) -> None:
        """Drop what was sent; nothing appears. Harmless when repeated, after `complete`, and in a fork."""
        if self._ended or not self._owner.is_here:
            return
        self._store.abort(PendingUpload(self._path, self._upload, 0.0))
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._abandoned.detach()
        _sweep(self._store, self._path, self._lost)

    def _create(self) -> str:
        arguments = self._target | {"Metadata": self._store.metadata(self._write)}

        def once(seconds: float) -> str:
            sent = time.time()
            try:
                answer = self._store.client.call("create_multipart_upload", seconds, **arguments)
            except Fault as fault:
                if fault.kind in (Kind.TRANSIENT, Kind.UNPROVEN):
                    self._lost.extend((sent, time.time()))
                raise
            return str(answer["UploadId"])

        try:
            return str(self._run(once))
        except ArchiveError:
            _sweep(self._store, self._path, self._lost)
            raise

    def _run(self, attempt: Callable[[float], Any], nbytes: int = 0) -> Any:
        try:
            return retried(attempt, self._store.client.contact, nbytes=nbytes)
        except Fault as fault:
            raise failure_of(fault, self._store.url(self._path)) from fault


def _sweep(store: _Store, path: str, lost: list[float]) -> None:
    """Abort uploads that we began without hearing of it, after our own has ended.

    Not before: a request may be carried out long after it was given up. Nothing in a listing says whose an
    upload is: it is ours if it is of this key, has no part, and was begun while our own requests were under
    way. Tidying up is no reason to fail: what stays is found by `gc`.

    Parameters
    ----------
    lost : list of float
        When each request that got no answer was sent, and when it was given up.
    """
    if not lost:
        return
    target, call = store.target(path), store.client.call
    arguments = {"Bucket": target["Bucket"], "Prefix": target["Key"]}
    with contextlib.suppress(Fault, ArchiveError):
        page = retried(
            lambda seconds: call("list_multipart_uploads", seconds, **arguments), store.client.contact
        )
        ahead = _server_time(page) - time.time()
        for found in page.get("Uploads") or []:
            started = found["Initiated"].timestamp() - ahead
            if found["Key"] == target["Key"] and lost[0] - CLOCK <= started <= lost[-1] + CLOCK:
                _abort_empty(store, PendingUpload(path, found["UploadId"], started))


def _abort_empty(store: _Store, pending: PendingUpload) -> None:
    """Abort an upload that has no part."""
    arguments = store.target(pending.path) | {"UploadId": pending.upload, "MaxParts": 1}
    with contextlib.suppress(Fault, ArchiveError):
        parts = retried(
            lambda seconds: store.client.call("list_parts", seconds, **arguments), store.client.contact
        )
        if not parts.get("Parts"):
            store.abort(pending)


def _server_time(answer: dict[str, Any]) -> float:
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return time.time()


def _abandon(store: _Store, pending: PendingUpload, lost: list[float], owner: Owner) -> None:
    """Abort an upload that was collected as garbage; a fork's copy of it is not its owner."""

    def abort() -> None:
        with contextlib.suppress(ArchiveError, RuntimeError):
            store.abort(pending)
        with contextlib.suppress(RuntimeError):
            _sweep(store, pending.path, lost)

    if owner.is_here:
        run_apart(abort, "fedarchive-abort")
