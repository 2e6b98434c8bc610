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
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import botocore.session
import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from archive.errors import UnsupportedURLError
from archive.storage.remote.clients import s3client
from archive.storage.remote.clients.bodies import Received
from archive.storage.remote.clients.connections import CONNECT_SECONDS, READ_SECONDS
from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.clients.s3 import S3Store
from archive.storage.remote.objectstore import Buffer
from archive.storage.url import Location

__all__ = ["ObstoreStore", "UntranslatedError", "fault_of", "is_plain_key", "settings_of"]

CREDENTIAL_SECONDS = 300
"""After this botocore is asked again for credentials, which it may have renewed."""
FOREVER = timedelta(days=365)
"""obstore's limit of a whole request: the one that `run_on` keeps grows with the request."""
_PROCESS = os.getpid()
"""obstore's threads do not survive a fork: a child that used it would wait for ever."""

_Work = Callable[[Any, str], Awaitable[Any]]

_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_TOKEN = re.compile(r"[!-~]+")
_CLIENT_NAMES = {
    "endpoint_url",
    "region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "use_ssl",
    "verify",
}
_CONFIG_NAMES = {*s3client.CONFIG, "region_name", "s3"}
# what one of the two reads there and the other does not
_ENVIRONMENT = re.compile(
    r"AWS_(ENDPOINT|BUCKET|BUCKET_NAME|DEFAULT_BUCKET|VIRTUAL_HOSTED\w*|SERVER_SIDE_ENCRYPTION|SSE_\w+"
    r"|CHECKSUM_ALGORITHM|S3_EXPRESS|REQUEST_PAYER|CONDITIONAL_PUT|DISABLE_\w+|ALLOW_\w+|USE_\w+"
    r"|IGNORE_\w+|PROXY_\w+|UNSIGNED_PAYLOAD|SKIP_SIGNATURE)"
)
_PROFILE = {"s3", "services", "endpoint_url", "ca_bundle", "use_fips_endpoint", "use_dualstack_endpoint"}

_FAILURES = (BaseError, OSError, ValueError)
_STATUS = re.compile(r"non-2xx status code: ([0-9]{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{1,64})</Code>")
_RANGES = re.compile(r"Requested [0-9]+\.\.[0-9]+, got ([0-9]+)\.\.([0-9]+)")
_SETTLED = (Kind.TRANSIENT, Kind.UNREACHABLE, Kind.MISSING, Kind.CONFLICT, Kind.RANGE)
"""Faults that need no second opinion."""


class UntranslatedError(UnsupportedURLError):
    """Settings that s3fs has and obstore has not."""


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


def settings_of(filesystem: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of an s3fs instance as obstore has them.

    Raises
    ------
    UntranslatedError
        It has others as well.
    """
    client, config = filesystem.client_kwargs, filesystem.config_kwargs
    left = {*filesystem.kwargs, *(set(client) - _CLIENT_NAMES), *(set(config) - _CONFIG_NAMES)}
    left |= {name for name in environment if _ENVIRONMENT.fullmatch(name)}
    left |= {name for name in ("session", "s3_additional_kwargs") if getattr(filesystem, name)}
    if client.get("verify", True) is not True:
        left.add("verify")
    if left:
        raise _untranslated(*left)
    try:
        session = botocore.session.Session()
        left = _PROFILE & set(session.get_scoped_config())
        region = session.get_config_variable("region")
    except BotoCoreError:
        raise _untranslated("profile") from None
    if left:
        raise _untranslated(*left)
    region = client.get("region_name") or config.get("region_name") or region or "us-east-1"
    timeouts = {
        "connect_timeout": config.get("connect_timeout", CONNECT_SECONDS),
        "read_timeout": config.get("read_timeout", READ_SECONDS),
    }
    return {
        **_addressing(filesystem, environment),
        **_credentials(filesystem, session),
        "region": _checked("region_name", region),
        **({"request_payer": True} if filesystem.requester_pays else {}),
        "client_options": {
            "allow_http": True,
            "timeout": FOREVER,
            **{name: timedelta(seconds=float(value)) for name, value in timeouts.items()},
        },
        "retry_config": {"max_retries": 0},
    }


def _addressing(filesystem: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    given = {filesystem.client_kwargs.get("endpoint_url"), filesystem.endpoint_url} - {None, ""}
    if not given:
        named = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        given = {named} - {None, ""}
    style = filesystem.config_kwargs.get("s3") or {}
    if len(given) > 1 or style not in ({}, {"addressing_style": "path"}, {"addressing_style": "auto"}):
        raise _untranslated("endpoint_url", "addressing_style")
    endpoint = str(given.pop()) if given else ""
    ssl = filesystem.use_ssl and filesystem.client_kwargs.get("use_ssl", True)
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise _untranslated("endpoint_url")
    if not endpoint and not ssl:
        raise _untranslated("use_ssl")
    secure = not endpoint.startswith("http:")
    bundle = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"} & set(environment)
    if secure and bundle:  # whom the user trusts
        raise _untranslated(*bundle)
    return {
        **({"endpoint": endpoint.rstrip("/")} if endpoint else {}),
        "virtual_hosted_style_request": not endpoint and style != {"addressing_style": "path"},
        "unsigned_payload": secure,  # as s3fs has it: TLS covers the body
    }


def _credentials(filesystem: Any, session: Any) -> dict[str, Any]:
    if filesystem.anon:
        return {"skip_signature": True}
    client = filesystem.client_kwargs
    key = filesystem.key or client.get("aws_access_key_id")
    secret = filesystem.secret or client.get("aws_secret_access_key")
    token = filesystem.token or client.get("aws_session_token")
    if key and secret:
        found = {"access_key_id": _checked("key", key), "secret_access_key": _checked("secret", secret)}
        return found | ({"session_token": _checked("token", token)} if token else {})
    if key or secret or token:
        raise _untranslated("half of the credentials")
    try:
        held = session.get_credentials()
    except BotoCoreError:
        held = None
    if held is None:
        raise _untranslated("no credentials")

    def provide() -> Any:
        frozen = held.get_frozen_credentials()
        return {
            "access_key_id": _checked("key", frozen.access_key),
            "secret_access_key": _checked("secret", frozen.secret_key),
            "token": _checked("token", frozen.token) if frozen.token else None,
            "expires_at": datetime.now(timezone.utc) + timedelta(seconds=CREDENTIAL_SECONDS),
        }

    return {"credential_provider": provide}


def _checked(name: str, value: Any) -> str:
    # obstore ends the process's thread over what no header can hold
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise _untranslated(name)
    return value


def _untranslated(*names: str) -> UntranslatedError:
    return UntranslatedError(
        f"obstore cannot do what these settings ask: {', '.join(sorted(names))}",
        remedy="leave them out, or leave FEDARCHIVE_CLIENT unset",
    )
