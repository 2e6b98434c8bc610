"""Objects of a web server, to be read: through the session of fsspec's HTTP file system."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
import fsspec

from archive.errors import UnsupportedURLError
from archive.storage.protocols import Take
from archive.storage.remote.clients.bodies import read_body
from archive.storage.remote.clients.connections import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Instances,
    fault_of_connection,
)
from archive.storage.remote.clients.failures import cause_of, failure_of, setup_problem
from archive.storage.remote.clients.loop import Arrivals, run_on
from archive.storage.remote.clients.ranged import RangedStore
from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Contact, Fault, Kind, fault_of_status, retried
from archive.storage.remote.objectstore import Buffer, Entry, ObjectVersion, PendingUpload, Upload
from archive.storage.url import Location

__all__ = ["HttpStore"]

_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError, EOFError, ValueError)


class HttpStore(RangedStore):
    """Objects of web servers; a path is the whole URL.

    Servers differ: one without ranges is read whole where the object is small, one without an ETag is
    pinned by length and Last-Modified, and what that lets through is found by our digests.

    Parameters
    ----------
    location : Location
        Its options are those of fsspec's ``HTTPFileSystem``.
    """

    name = "http"
    parallel = 8
    multipart = False
    min_part_bytes = 1
    pins = True
    writable = False

    def __init__(self, location: Location) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        # aiohttp looks for the proxy of the environment (HTTPS_PROXY, NO_PROXY) only where it is told to
        client = {"timeout": timeout, "trust_env": True, **(location.options.get("client_kwargs") or {})}
        options = {"skip_instance_cache": True, **location.options, "client_kwargs": client}
        scheme = location.path.partition("://")[0]
        # not by the URL: fsspec takes the "::" of an IPv6 address for a chain
        self._instances = Instances(lambda: fsspec.filesystem(scheme, **options))
        self._contacts: defaultdict[str, Contact] = defaultdict(Contact)
        self.denied = False
        """Never: credentials are in the URL or in the options."""

    def path_of(self, location: Location) -> str:
        """Return the path that a URL names here.

        Raises
        ------
        UnsupportedURLError
            The URL has an invalid host.
        """
        try:
            urlsplit(location.path)
        except ValueError:  # whose text may repeat a password
            raise UnsupportedURLError("invalid URL", path=location.display, remedy="check the URL") from None
        return location.path

    def url(self, path: str) -> str:
        """Return what messages call an object: neither credentials nor signature."""
        return Location(path, True).display

    def head(self, path: str) -> ObjectVersion:
        """Return the current version; one request, two where a server does not answer HEAD."""
        try:
            reply = retried(
                lambda seconds: self._request("HEAD", path, {}, None, seconds), self._contact(path)
            )
        except Fault as fault:
            # a signed URL is signed for GET alone
            if fault.kind not in (Kind.UNSUPPORTED, Kind.DENIED):
                raise failure_of(fault, self.url(path)) from fault
            return self.get_suffix(path, 1)[1]
        if reply.content_nbytes is None:
            return self.get_suffix(path, 1)[1]
        return ObjectVersion(reply.content_nbytes, reply.tag, reply.modified)

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Refuse: web servers are read."""
        self._refuse(path)

    def create_multipart(self, path: str) -> Upload:
        """Refuse: web servers are read."""
        self._refuse(path)

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Refuse: web servers are read."""
        self._refuse(path)

    def list(self, path: str, *, below: bool = True, span: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Refuse: a web server's pages of links are no listing."""
        raise UnsupportedURLError(
            "a web server does not list", path=self.url(path), remedy="name the archive itself"
        )

    def delete(self, path: str) -> None:
        """Refuse: web servers are read."""
        self._refuse(path)

    def list_multipart(self, path: str) -> Iterator[PendingUpload]:
        """Yield nothing: there are no uploads."""
        return iter(())

    def abort(self, pending: PendingUpload) -> None:
        """Do nothing: there are no uploads."""

    def _refuse(self, path: str) -> NoReturn:
        raise UnsupportedURLError(
            "web servers are read, not written",
            path=self.url(path),
            remedy="save to a local path or to object storage",
        )

    def _contact(self, path: str) -> Contact:
        return self._contacts[urlsplit(path).netloc]

    def _get(
        self, path: str, header: str, tag: str, check: Callable[[Reply], Body], nbytes: int, take: Take
    ) -> ObjectVersion:
        headers = {"Range": header} | ({"If-Match": tag} if tag else {})
        version: ObjectVersion = retried(
            lambda seconds: self._request("GET", path, headers, (check, Arrivals(take)), seconds),
            self._contact(path),
            nbytes=nbytes,
        )
        return version

    def _request(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: tuple[Callable[[Reply], Body], Arrivals] | None,
        seconds: float,
    ) -> Any:
        filesystem = self._instances.get()

        async def request() -> Reply | ObjectVersion:
            try:
                async with await _send(filesystem, method, path, headers) as response:
                    reply = _reply(response)
                    if body is None:
                        return reply
                    check, arrivals = body
                    return await read_body(response.content.read, reply, check(reply), arrivals.hand)
            except _FAILURES as error:
                raise fault_of_connection(error) from cause_of(error)

        return run_on(filesystem.loop, request(), seconds, body and body[1])


async def _send(filesystem: Any, method: str, path: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
    """Return the response to one request, whose body is still to be read."""
    try:
        session = await filesystem.set_session()
        settings = dict(filesystem.kwargs)
        own = settings.pop("headers", None) or {}
        # compressed on the way, bytes would be counted of something else
        asked = {**own, "Accept-Encoding": "identity", **headers}
        settings.setdefault("allow_redirects", True)
        url = filesystem.encode_url(path)
        response: aiohttp.ClientResponse = await session.request(method, url, headers=asked, **settings)
    except (TypeError, KeyError, AttributeError) as error:
        raise Fault(
            Kind.REFUSED,
            f"the request cannot be made: {setup_problem(error)}",
            remedy="check storage_options",
        ) from cause_of(error)
    return response


def _reply(response: aiohttp.ClientResponse) -> Reply:
    status, found = response.status, response.headers
    if status not in (200, 206):
        after = found.get("Retry-After", "")
        problem = "no such object" if status in (404, 410) else f"the server refused: {status}"
        raise fault_of_status(status, problem, wait=float(after) if after.isdecimal() else 0.0)
    # aws-chunked is how an object was uploaded; its bytes come as they are
    codings = {coding.strip() for coding in found.get("Content-Encoding", "").lower().split(",")}
    if codings - {"", "identity", "aws-chunked"}:
        raise Fault(Kind.UNSUPPORTED, "the server compresses what it sends", status=status)
    tag, modified = found.get("ETag", ""), found.get("Last-Modified", "")
    if not tag.startswith('"'):
        tag, modified = "", tag or modified  # a weak tag does not promise the same bytes
    length = found.get("Content-Length", "")
    return Reply(
        status,
        found.get("Content-Range", ""),
        int(length) if length.isdecimal() else None,
        tag,
        "" if tag else modified,
    )
