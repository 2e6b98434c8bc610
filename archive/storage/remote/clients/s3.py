"""Objects of an S3 server through s3fs: exact ranges of one version, whole objects, uploads in parts."""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from archive.errors import MissingError, UnsupportedURLError
from archive.storage.protocols import Take
from archive.storage.remote.clients.failures import failure_of
from archive.storage.remote.clients.proofs import tag_of, unproven
from archive.storage.remote.clients.ranged import RangedStore
from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Fault, Kind, retried
from archive.storage.remote.clients.s3client import PARALLEL, S3Client, version_fields
from archive.storage.remote.clients.s3upload import S3Upload, Written, publish
from archive.storage.remote.objectstore import (
    PROBE_PREFIX,
    PROBES,
    Buffer,
    Entry,
    ObjectVersion,
    PendingUpload,
    strong_tag,
)
from archive.storage.url import Location

__all__ = ["S3Store"]

T = TypeVar("T")


class S3Store(RangedStore):
    """Objects of one S3 server.

    Parameters
    ----------
    location : Location
        Any URL of it, with its options.
    """

    name = "s3fs"
    parallel = PARALLEL
    multipart = True
    min_part_bytes = 5 << 20
    pins = True
    writable = True

    def __init__(self, location: Location) -> None:
        self.client: S3Client = S3Client(location)
        self._exclusive: dict[tuple[str, bool], bool] = {}

    @property
    def denied(self) -> bool:
        """Whether the server did not let us in, so that another try is to begin with new credentials."""
        return self.client.denied

    def path_of(self, location: Location) -> str:
        """Return the path that a URL names here."""
        return str(self.client.filesystem()._strip_protocol(location.path))

    def url(self, path: str) -> str:
        """Return what messages call an object."""
        return Location(f"s3://{path}", True).display

    def target(self, path: str) -> dict[str, Any]:
        """Return bucket and key, as requests that change something name them.

        Raises
        ------
        UnsupportedURLError
            The path names a version: what was written would be another one, and be the current object.
        """
        bucket, key, version = self.client.filesystem().split_path(path)
        if version:
            raise UnsupportedURLError(
                "a version of an object is read, not changed",
                path=self.url(path),
                remedy="leave versionId out",
            )
        return {"Bucket": bucket, "Key": key}

    def head(self, path: str) -> ObjectVersion:
        """Return the current version; one request."""
        arguments = self._versioned(path)
        response = self._run(path, lambda seconds: self.client.call("head_object", seconds, **arguments))
        return ObjectVersion(int(response["ContentLength"]), *version_fields(response))

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Make an object of ``data`` appear whole. ``exclusive``: ExistsError where one is there already."""
        written = Written(secrets.token_hex(16), memoryview(data).nbytes, tag_of(data))
        arguments = self.target(path) | {"Body": data, "Metadata": self.metadata(written.write)}
        if exclusive:
            arguments["IfNoneMatch"] = "*"
        publish(
            self,
            path,
            written,
            lambda seconds: self.client.call("put_object", seconds, **arguments),
            exclusive=exclusive,
            nbytes=written.nbytes,
        )

    def create_multipart(self, path: str) -> S3Upload:
        """Begin an upload in parts."""
        return S3Upload(self, path)

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Tell whether the store keeps its word about ``exclusive``; asked once for each bucket."""
        asked = (self.target(path)["Bucket"], multipart)
        if asked not in self._exclusive:
            self._exclusive[asked] = self._probe(path, multipart)
        return self._exclusive[asked]

    def list(self, path: str, *, below: bool = True, span: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Yield every object below a folder; nothing where there is no such folder."""
        target = self.target(path)
        prefix = _folder(target["Key"])
        arguments = {"Bucket": target["Bucket"], "Prefix": prefix}
        arguments |= {} if below else {"Delimiter": "/"}
        arguments |= {"StartAfter": prefix + span[0]} if span else {}
        for page in self._pages(
            path, "list_objects_v2", arguments, {"NextContinuationToken": "ContinuationToken"}
        ):
            for found in page.get("Contents") or []:
                inner = found["Key"][len(prefix) :]
                if span and inner >= span[1]:
                    return
                if inner:
                    yield Entry(
                        inner,
                        int(found["Size"]),
                        _seconds(found.get("LastModified")),
                        strong_tag(found.get("ETag")),
                    )

    def delete(self, path: str) -> None:
        """Remove an object; MissingError where there is none."""
        target = self.target(path)
        self.head(path)  # a server says nothing about an object that was not there
        self._remove(path, "delete_object", "head_object", target)

    def list_multipart(self, path: str) -> Iterator[PendingUpload]:
        """Yield uploads of an object, or below a folder, that were begun and not ended."""
        target = self.target(path)
        key, folder = target["Key"].rstrip("/"), _folder(target["Key"])
        arguments = {"Bucket": target["Bucket"], "Prefix": key}
        marks = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
        for page in self._pages(path, "list_multipart_uploads", arguments, marks):
            for found in page.get("Uploads") or []:
                if found["Key"] == key or found["Key"].startswith(folder):
                    yield PendingUpload(
                        f"{target['Bucket']}/{found['Key']}",
                        found["UploadId"],
                        _seconds(found.get("Initiated")),
                    )

    def abort(self, pending: PendingUpload) -> None:
        """End an upload that somebody began; nothing happens where it ended meanwhile.

        Its parts are asked for afterwards: S3 keeps one that it was storing as the upload was aborted.
        """
        arguments = self.target(pending.path) | {"UploadId": pending.upload}
        with contextlib.suppress(MissingError):
            self._remove(pending.path, "abort_multipart_upload", "list_parts", arguments, remains="Parts")

    def metadata(self, write: str) -> dict[str, str]:
        """Return what is stored beside an object: the user's own, and the id of this write."""
        own = self.client.filesystem().s3_additional_kwargs.get("Metadata") or {}
        return {**own, "fedarchive-write": write}

    def _versioned(self, path: str) -> dict[str, Any]:
        bucket, key, version = self.client.filesystem().split_path(path)
        return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})

    def _get(
        self, path: str, header: str, tag: str, check: Callable[[Reply], Body], nbytes: int, take: Take
    ) -> ObjectVersion:
        arguments = self._versioned(path) | {"Range": header} | ({"IfMatch": tag} if tag else {})
        return retried(
            lambda seconds: self.client.get(check, take, seconds, **arguments),
            self.client.contact,
            nbytes=nbytes,
        )

    def _run(self, path: str, attempt: Callable[[float], T]) -> T:
        try:
            return retried(attempt, self.client.contact)
        except Fault as fault:
            raise failure_of(fault, self.url(path)) from fault

    def _remove(
        self, path: str, method: str, ask: str, arguments: dict[str, Any], *, remains: str = ""
    ) -> None:
        """Remove something by a request; where its answer proves nothing, ask whether it is gone.

        ``remains`` is the field of the second answer that shows what a true answer to the first may leave;
        if not given, a true answer is enough.
        """

        def remove(seconds: float) -> None:
            doubt: Fault | None = None
            try:
                self.client.call(method, seconds, **arguments)
            except Fault as fault:
                if fault.kind is not Kind.UNPROVEN:
                    raise
                doubt = fault
            if not doubt and not remains:
                return
            try:
                found = self.client.call(ask, seconds, **arguments)
            except Fault as absent:
                if not doubt or absent.kind is Kind.MISSING:
                    return
                raise doubt from absent
            if doubt or found.get(remains):
                # the same server knows it still: the answer was not its own, or came too early
                problem = f"{doubt.problem}; nothing was removed" if doubt else f"{remains.lower()} were left"
                raise Fault(Kind.TRANSIENT, problem, status=200) from doubt

        self._run(path, remove)

    def _pages(
        self, path: str, method: str, arguments: dict[str, Any], marks: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        while True:
            asked = dict(arguments)
            page = self._run(path, lambda seconds, asked=asked: self.client.call(method, seconds, **asked))  # type: ignore[misc]
            yield page
            following = {mark: page[name] for name, mark in marks.items() if page.get(name)}
            if not page["IsTruncated"]:
                return
            if not following or following.items() <= arguments.items():
                raise failure_of(unproven("with a listing that breaks off"), self.url(path))
            arguments = arguments | following

    def _probe(self, path: str, multipart: bool) -> bool:
        folder = posixpath.dirname(path)
        probe = f"{folder}/{PROBE_PREFIX}{secrets.token_hex(8)}"
        arguments = self.target(probe) | {"Body": PROBES[0], "IfNoneMatch": "*"}

        def put(seconds: float) -> None:
            self.client.call("put_object", seconds, **arguments)

        try:
            refused = self._refuses(put)
            if refused and refused.kind is not Kind.CONFLICT:  # a conflict is our own, its answer lost
                return False
            if not multipart:
                again = self._refuses(put)
                return again is not None and again.kind is Kind.CONFLICT
            upload = self.create_multipart(probe)
            try:
                upload.put_part(1, PROBES[1])
                # Ceph 16 ignores the precondition, and its answer has an empty ETag
                again = self._refuses(
                    lambda seconds: upload.send_complete(seconds, exclusive=True), Kind.UNPROVEN
                )
            finally:
                upload.abort()
            return again is not None and again.kind is Kind.CONFLICT
        except Fault as fault:
            raise failure_of(fault, self.url(path)) from fault
        finally:
            with contextlib.suppress(Fault):
                retried(
                    lambda seconds: self.client.call("delete_object", seconds, **self.target(probe)),
                    self.client.contact,
                )

    def _refuses(self, attempt: Callable[[float], object], *others: Kind) -> Fault | None:
        """Return how a server declined a conditional request; None where it did as it was told.

        Faults of ``others`` are returned as well, all further ones raised.
        """
        try:
            retried(attempt, self.client.contact)
        except Fault as fault:
            if fault.kind in (Kind.CONFLICT, Kind.UNSUPPORTED, Kind.REFUSED, *others):
                return fault
            raise
        return None

    def is_ours(self, path: str, written: Written) -> bool | None:
        """Tell whether the object that is there came of one write; None where nothing is there.

        Raises
        ------
        Fault
            The server does not say, or has something else under the name of this write.
        """
        try:
            response = retried(
                lambda seconds: self.client.call("head_object", seconds, **self.target(path)),
                self.client.contact,
            )
        except Fault as fault:
            if fault.kind is Kind.MISSING:
                return None
            raise
        found = {name.lower(): value for name, value in (response.get("Metadata") or {}).items()}
        if found.get("fedarchive-write") != written.write:
            return False
        if response["ContentLength"] != written.nbytes:
            raise unproven(f"and has {response['ContentLength']} of {written.nbytes} bytes")
        return True


def _folder(key: str) -> str:
    return key.rstrip("/") + "/" if key else ""


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0
