"""Objects of an S3 server through obstore: requests that are many, faster; s3fs does the rest.

Ranges, heads and whole objects go over obstore, which makes them outside the interpreter. Uploads in parts,
listings and deletions are s3fs's: obstore 0.12 drives no part of an upload by itself, completes none with a
precondition and aborts none on demand. s3fs is also asked again where a server refuses, because its answer
says more, and instead of obstore for what that cannot do: odd keys, servers that ignore ranges, the child
of a fork. Retries are ours; obstore makes none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from archive.storage.remote.clients import s3client
from archive.storage.remote.clients.bodies import Received
from archive.storage.remote.clients.obstoresettings import UntranslatedError, settings_of
from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.clients.s3 import S3Store
from archive.storage.remote.objectstore import Buffer
from archive.storage.url import Location

__all__ = ["ObstoreStore", "UntranslatedError", "fault_of", "is_plain_key"]

_PROCESS = os.getpid()
"""obstore's threads do not survive a fork: a child that used it would wait for ever."""

_Work = Callable[[Any, str], Awaitable[Any]]

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_FAILURES = (BaseError, OSError, ValueError)
_STATUS = re.compile(r"non-2xx status code: ([0-9]{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{1,64})</Code>")
_RANGES = re.compile(r"Requested [0-9]+\.\.[0-9]+, got ([0-9]+)\.\.([0-9]+)")
_SETTLED = (Kind.TRANSIENT, Kind.UNREACHABLE, Kind.MISSING, Kind.CONFLICT, Kind.RANGE)
"""Faults that need no second opinion."""


class _Unclear(Exception):  # noqa: N818 - it is caught in this module
    """A request that s3fs is to make as well."""

    def __init__(self, status: int | None) -> None:
        super().__init__()
        self.status = status
        """Of the refusal; None where there was none."""


class ObstoreStore(S3Store):
    """Objects of one S3 server.

    Parameters
    ----------
    location : Location
        Any URL of it, with options of `s3fs.S3FileSystem`.

    Raises
    ------
    UntranslatedError
        Its settings are for s3fs alone.
    """

    name = "obstore"

    def __init__(self, location: Location) -> None:
        self.client = _Client(location)
        self._exclusive = {}


class _Client(s3client.S3Client):
    """Calls of `S3Client`, the most frequent of them over obstore."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        filesystem = self.filesystem()
        self._settings = settings_of(filesystem, os.environ)
        self._declined: set[str] = set()
        self._buckets: dict[str, Any] = {}
        self._bucket(str(filesystem.split_path(location.path)[0]))

    def get(self, check: Callable[[Reply], Body], seconds: float, **arguments: Any) -> Received:
        """Return the body of one GET whose head ``check`` has accepted.

        Raises
        ------
        Fault
        """
        options = _options_of(arguments)

        async def get(bucket: Any, key: str) -> Received:
            result = await obstore.get_async(bucket, key, options=options)
            first, stop = result.range
            meta = cast("dict[str, Any]", result.meta)
            tag = str(meta["e_tag"] or "")
            modified = "" if tag else meta["last_modified"].isoformat()
            body = check(Reply(206, f"bytes {first}-{stop - 1}/{meta['size']}", None, tag, modified))
            data = memoryview(cast("bytes", await result.bytes_async()))
            if data.nbytes != body.nbytes:
                raise Fault(Kind.TRANSIENT, f"{data.nbytes} of {body.nbytes} bytes came", status=206)
            return [cast("bytes", data)], body

        def instead() -> Received:
            return super(_Client, self).get(check, seconds, **arguments)

        received: Received = self._either(get, instead, seconds, arguments)
        return received

    def _send(self, method: str, seconds: float, arguments: dict[str, Any]) -> dict[str, Any]:
        def instead() -> dict[str, Any]:
            return super(_Client, self)._send(method, seconds, arguments)

        if method == "head_object":
            work: _Work = _heading(arguments)
        elif method == "put_object":
            work = _putting(arguments)
        else:
            return instead()
        answer: dict[str, Any] = self._either(work, instead, seconds, arguments)
        return answer

    def _either(
        self, work: _Work, instead: Callable[[], Any], seconds: float, arguments: dict[str, Any]
    ) -> Any:
        name, key = arguments["Bucket"], arguments["Key"]
        if name in self._declined or not is_plain_key(key) or os.getpid() != _PROCESS:
            return instead()

        async def one(filesystem: Any, method: str, arguments: dict[str, Any]) -> Any:
            try:
                return await work(self._bucket(name), key)
            except _FAILURES as error:
                # from nothing: obstore's errors quote what was asked, and answers at length
                raise _settled(fault_of(error)) from None

        try:
            return self._run(one, "", seconds, arguments)
        except _Unclear as unclear:
            status = unclear.status
        if status in (301, 307, 400):
            self._declined.add(name)  # the settings are at fault, not this request
        answer = instead()
        if status is not None:
            self._declined.add(name)  # s3fs was let in: it knows something that we did not translate
        return answer

    def _bucket(self, name: str) -> Any:
        made = self._buckets.get(name)
        if made is None:
            if not _BUCKET.fullmatch(name):
                raise UntranslatedError("obstore takes plain names of buckets only", remedy="use s3fs")
            try:
                made = self._buckets.setdefault(name, Bucket(name, **self._settings))
            except _FAILURES as error:
                raise UntranslatedError(
                    f"obstore does not take these settings: {type(error).__name__}", remedy="use s3fs"
                ) from None
        return made


def _options_of(arguments: Mapping[str, Any]) -> Any:
    """Return what obstore calls the arguments of a request of botocore's."""
    options: dict[str, Any] = {}
    first, _, last = arguments.get("Range", "").rpartition("=")[2].partition("-")
    if last:
        options["range"] = (int(first), int(last) + 1) if first else {"suffix": int(last)}
    if "IfMatch" in arguments:
        options["if_match"] = arguments["IfMatch"]
    if "VersionId" in arguments:
        options["version"] = arguments["VersionId"]
    return options


def _heading(arguments: Mapping[str, Any]) -> _Work:
    options = {**_options_of(arguments), "head": True}

    async def head(bucket: Any, key: str) -> dict[str, Any]:
        result = await obstore.get_async(bucket, key, options=cast("Any", options))
        meta = cast("dict[str, Any]", result.meta)
        return {
            "ContentLength": meta["size"],
            "ETag": meta["e_tag"],
            "LastModified": meta["last_modified"] if meta["last_modified"].timestamp() else None,
            "Metadata": dict(result.attributes),
        }

    return head


def _putting(arguments: Mapping[str, Any]) -> _Work:
    async def put(bucket: Any, key: str) -> dict[str, Any]:
        result = await obstore.put_async(
            bucket,
            key,
            _plain(arguments["Body"]),
            attributes=arguments.get("Metadata") or {},
            mode="create" if "IfNoneMatch" in arguments else "overwrite",
            use_multipart=False,
        )
        return {"ETag": result["e_tag"]}

    return put


def _plain(data: Buffer) -> Any:
    view = memoryview(data)
    return view.cast("B") if view.nbytes else b""


def is_plain_key(key: str) -> bool:
    """Tell whether obstore asks for this key and no other, and its messages can be told from it.

    Examples
    --------
    >>> is_plain_key("round 7/model.h5"), is_plain_key("a//b"), is_plain_key("a/"), is_plain_key("../a")
    (True, False, False, False)
    """
    return key.isprintable() and ": " not in key and not {"", ".", ".."} & set(key.split("/"))


def fault_of(error: Exception) -> Fault | None:
    """Return what an error of obstore says about a request; None where another client is to say it."""
    said, _, details = str(error).partition("\n\nDebug source:")
    status, code, ranges = _STATUS.search(said), _CODE.search(said), _RANGES.search(said)
    if status:
        # in botocore's words, so that both clients have the same
        answer: Any = {
            "Error": {"Code": code[1] if code else status[1]},
            "ResponseMetadata": {"HTTPStatusCode": int(status[1])},
        }
        return s3client.fault_of(ClientError(answer, ""))
    if ranges:
        return Fault(
            Kind.TRANSIENT,
            f"bytes {ranges[1]} to {int(ranges[2]) - 1} came instead of those that were asked for",
            status=206,
            remedy="a server or proxy on the way answers ranges wrongly",
        )
    if "redirect" in said:
        return Fault(Kind.REFUSED, "the bucket is elsewhere", status=301)
    if "HTTP error" not in said:
        return None
    if re.search(r"(?i)certificate|\btls\b", details):
        return Fault(Kind.REFUSED, "no secure connection came about: certificate or TLS")
    if "dns error" in details:
        return Fault(Kind.UNREACHABLE, "the host name is not known")
    if re.search(r"\bConnect\b|\bConnectError\b|tcp connect", details):
        refused = ": Connection refused" if "ConnectionRefused" in details else ""
        return Fault(Kind.UNREACHABLE, f"the server cannot be reached{refused}")
    if "TimedOut" in details:
        return Fault(Kind.TRANSIENT, "the server stopped answering")
    return Fault(Kind.TRANSIENT, "the connection broke")


def _settled(fault: Fault | None) -> Exception:
    if fault is not None and fault.kind in _SETTLED:
        return fault
    return _Unclear(None if fault is None else fault.status)
