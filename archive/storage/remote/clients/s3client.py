"""An s3fs instance, called without its caches and retries; botocore's errors as faults."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import botocore.config
import fsspec
from botocore import exceptions
from botocore.parsers import ResponseParserError

from archive.errors import StorageError
from archive.storage.protocols import Take
from archive.storage.remote.clients.bodies import read_body
from archive.storage.remote.clients.connections import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Instances,
    fault_of_connection,
)
from archive.storage.remote.clients.failures import setup_problem
from archive.storage.remote.clients.loop import Arrivals, run_on
from archive.storage.remote.clients.pagetimes import parse_times_fast
from archive.storage.remote.clients.proofs import expect_answer, expect_xml, unproven
from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import VARIABLE, Contact, Fault, Kind, fault_of_status
from archive.storage.remote.objectstore import ObjectVersion
from archive.storage.url import Location

__all__ = ["PARALLEL", "S3Client", "fault_of", "version_fields"]

PARALLEL = 8
CONFIG: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "retries": {"max_attempts": 0},  # ours are the only ones: three floors of retries make 60 requests of 4
    "max_pool_connections": 2 * PARALLEL,
    # Every byte has a digest of ours; over http the signature covers the body, over https TLS does. The
    # checksums that botocore 1.36 adds by itself cost a pass and are refused by some servers.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
"""Settings of botocore where the user gives none."""

# As botocore does for its own: without a handler a missing login is printed to stderr as a traceback.
logging.getLogger("aiobotocore").addHandler(logging.NullHandler())

_OPTIONS = (
    "check storage_options: the options of s3fs.S3FileSystem, such as endpoint_url, key, secret, token, "
    "profile, anon, client_kwargs, config_kwargs"
)
# No text of botocore's: what a credential process prints may repeat a secret.
_SETUP: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Kind, str, str], ...] = (
    (
        exceptions.ProfileNotFound,
        Kind.DENIED,
        "the AWS profile does not exist",
        "check profile in storage_options, or AWS_PROFILE",
    ),
    (
        exceptions.PartialCredentialsError,
        Kind.DENIED,
        "the credentials are incomplete",
        "give both key and secret, in storage_options, the environment or ~/.aws",
    ),
    (exceptions.NoCredentialsError, Kind.DENIED, "no credentials were found", ""),
    (
        (exceptions.SSOError, exceptions.TokenRetrievalError),
        Kind.DENIED,
        "the SSO login is missing, or has expired",
        "log in again: aws sso login",
    ),
    (
        (exceptions.CredentialRetrievalError, FileNotFoundError),
        Kind.DENIED,
        "a program or file that the AWS configuration names is missing or fails",
        "check credential_process and ca_bundle in ~/.aws, and AWS_CA_BUNDLE",
    ),
    (
        (exceptions.ConfigParseError, exceptions.ConfigNotFound, exceptions.InvalidConfigError),
        Kind.DENIED,
        "the AWS configuration is invalid",
        "check the files in ~/.aws, and AWS_PROFILE",
    ),
    (
        exceptions.ParamValidationError,
        Kind.REFUSED,
        "the name of the bucket or of the object is invalid",
        "write s3://bucket/key; credentials belong in storage_options or the environment",
    ),
)
"""What keeps a request from being made: errors, kind, problem, remedy ("" for that of the kind)."""
_UNREACHABLE = (exceptions.ConnectTimeoutError, exceptions.ProxyConnectionError)
_FAILURES = (
    exceptions.BotoCoreError,
    exceptions.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    OSError,
    EOFError,
    ValueError,
)
_REDIRECTS = (301, 302, 307)
_REGION = "x-amz-bucket-region"
# Codes whose HTTP status says something else, or too little
_CODES = {
    "RequestTimeout": Kind.TRANSIENT,
    "BadDigest": Kind.TRANSIENT,
    "IncompleteBody": Kind.TRANSIENT,
    "XAmzContentSHA256Mismatch": Kind.TRANSIENT,
    "InternalError": Kind.TRANSIENT,
    "SlowDown": Kind.TRANSIENT,
    "ExpiredToken": Kind.DENIED,
    "ExpiredTokenException": Kind.DENIED,
    "InvalidToken": Kind.DENIED,
    "TokenRefreshRequired": Kind.DENIED,
    "InvalidAccessKeyId": Kind.DENIED,
    "NotImplemented": Kind.UNSUPPORTED,
}
_REMEDIES = {
    "NoSuchBucket": "check the bucket's name and endpoint_url in storage_options",
    "AuthorizationHeaderMalformed": "client_kwargs={'region_name': ...} in storage_options names the region",
    "IllegalLocationConstraintException": "client_kwargs={'region_name': ...} in storage_options names it",
    "PermanentRedirect": "client_kwargs={'region_name': ...} in storage_options names the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "fetch new credentials",
}


class S3Client:
    """Calls of one s3fs instance from any thread, and from the child of a fork.

    Parameters
    ----------
    location : Location
        Its options are those of `s3fs.S3FileSystem`; what the user gave wins.
    """

    def __init__(self, location: Location) -> None:
        given = location.options.get("config_kwargs") or {}
        if "retries" in location.options or "retries" in given:
            raise StorageError(
                "requests are tried again by one rule, which the option 'retries' does not change",
                path=location.display,
                remedy=f"leave it out; {VARIABLE} sets how many seconds of an outage are waited for",
            )
        known = botocore.config.Config.OPTION_DEFAULTS
        config = {name: value for name, value in CONFIG.items() if name in known}
        options = {
            "use_listings_cache": False,
            "skip_instance_cache": True,
            **location.options,
            "config_kwargs": {**config, **given},
        }
        self._instances = Instances(lambda: fsspec.core.url_to_fs(location.path, **options)[0])
        self.contact: Contact = Contact()
        """What all requests of this client say of the server."""
        self.denied: bool = False
        """Whether the server did not let us in: credentials are read once, when an instance is made."""

    def filesystem(self) -> Any:
        """Return this process's instance."""
        return self._instances.get()

    def call(self, method: str, seconds: float, **arguments: Any) -> dict[str, Any]:
        """Return the answer to one request, which shows that it was done.

        Raises
        ------
        Fault
        """
        sent = arguments | {"Body": _View(arguments["Body"])} if "Body" in arguments else arguments
        answer: dict[str, Any] = self._run(_call, method, seconds, sent)
        expect_answer(method, arguments, answer)
        return answer

    def get(
        self, check: Callable[[Reply], Body], take: Take, seconds: float, **arguments: Any
    ) -> ObjectVersion:
        """Take the body of one GET whose head ``check`` has accepted, and return its version.

        Raises
        ------
        Fault
        """
        arrivals = Arrivals(take)

        async def get(filesystem: Any, method: str, arguments: dict[str, Any]) -> ObjectVersion:
            response = await _call(filesystem, method, arguments)
            stream = response["Body"]
            try:
                reply = _reply(response)
                return await read_body(stream.read, reply, check(reply), arrivals.hand)
            except _FAILURES as error:
                raise fault_of(error) from error
            finally:
                # after the last byte this does nothing; before it, it drops the connection and the rest
                closing: Any = stream.close()
                if inspect.isawaitable(closing):
                    await closing

        version: ObjectVersion = self._run(get, "get_object", seconds, arguments, arrivals)
        return version

    def _run(
        self,
        work: Callable[[Any, str, dict[str, Any]], Coroutine[Any, Any, Any]],
        method: str,
        seconds: float,
        arguments: dict[str, Any],
        arrivals: Arrivals | None = None,
    ) -> Any:
        filesystem = self.filesystem()
        try:
            return run_on(filesystem.loop, work(filesystem, method, arguments), seconds, arrivals)
        except Fault as fault:
            self.denied = self.denied or fault.kind is Kind.DENIED
            raise


class _View(io.BytesIO):
    """A buffer as the file that botocore wants, without a copy of it: 4 parts of 16 MiB are under way."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._data = memoryview(data).cast("B")
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        begin = self._at
        self._at = self._data.nbytes if size is None or size < 0 else min(begin + size, self._data.nbytes)
        return bytes(self._data[begin : self._at])

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, self._data.nbytes)[whence])
        return self._at

    def tell(self) -> int:
        return self._at


async def _call(filesystem: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    # s3fs's own `_call_s3`, without its retries and its translation of errors, which fails itself where
    # a server sends no message (Ceph's 412)
    try:
        await filesystem.set_session()
    except (TypeError, KeyError, AttributeError) as error:
        raise Fault(
            Kind.REFUSED,
            f"the client cannot be set up: {setup_problem(error)}",
            remedy=_OPTIONS,
        ) from error
    except _FAILURES as error:
        raise fault_of(error) from error
    try:
        client = await filesystem.get_s3(arguments.get("Bucket"))
        client.meta.events.register("response-received.s3", _judge, unique_id="fedarchive")
        _check_host_names(client)
        parse_times_fast(client)
        function = getattr(client, method)
        answer: dict[str, Any] = await function(
            **filesystem._get_s3_method_kwargs(function, filesystem.req_kw, **arguments)
        )
    except (TypeError, KeyError, AttributeError) as error:  # a number where a key or token is text
        raise Fault(
            Kind.REFUSED,
            f"the request cannot be made: {setup_problem(error)}",
            remedy="check storage_options",
        ) from error
    except exceptions.ParamValidationError as error:
        raise fault_of(error) from None  # its text repeats what a URL named before the bucket
    except _FAILURES as error:
        raise fault_of(error) from error
    return answer


def _check_host_names(client: Any) -> None:
    """Have TLS refuse the certificate of another host, which aiobotocore 2.26 takes.

    The context is one for urllib3, which looks at names itself. It is made where the first request is sent.
    """
    session: Any = getattr(client._endpoint, "http_session", None)
    make = getattr(session, "_get_ssl_context", None)
    if make is None or getattr(make, "checks", False):
        return

    def checked() -> Any:
        context = make()
        context.check_hostname = True
        return context

    checked.checks = True  # type: ignore[attr-defined]
    session._get_ssl_context = checked


def _judge(event_name: str, response_dict: dict[str, Any] | None, **_: Any) -> None:
    """Check a reply before botocore does something about it."""
    if response_dict is None:
        return
    operation, status = event_name.rpartition(".")[2], response_dict["status_code"]
    if operation == "HeadBucket" and status in _REDIRECTS and _REGION not in response_dict["headers"]:
        # where a request is redirected botocore asks for the bucket's region so; redirected again, for ever
        raise Fault(
            Kind.REFUSED,
            f"the endpoint redirects every request: {status}",
            status=status,
            remedy="check endpoint_url in storage_options, whether it is https, and the bucket's region",
        )
    # botocore would make 500 of a 200 with a page
    if status < 300 and isinstance(response_dict["body"], bytes):
        expect_xml(operation, response_dict["body"])


def version_fields(response: dict[str, Any]) -> tuple[str, str]:
    """Return ETag and time of an answer, as an `ObjectVersion` has them."""
    tag = str(response.get("ETag") or "")
    modified = response.get("LastModified")
    return tag, "" if tag or modified is None else modified.isoformat()


def _reply(response: dict[str, Any]) -> Reply:
    tag, modified = version_fields(response)
    return Reply(
        int(response["ResponseMetadata"]["HTTPStatusCode"]),
        response.get("ContentRange") or "",
        response.get("ContentLength"),
        tag,
        modified,
    )


def fault_of(error: Exception) -> Fault:
    """Return what an error of botocore, aiohttp or the system says about a request."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, exceptions.ClientError):
        return _fault_of_answer(error.response)
    if isinstance(error, exceptions.HTTPClientError) and isinstance(
        error.kwargs.get("error"), FileNotFoundError
    ):
        error = error.kwargs["error"]  # the file of certificates
    for errors, kind, problem, remedy in _SETUP:
        if isinstance(error, errors):
            return Fault(kind, problem, remedy=remedy)
    if isinstance(error, exceptions.EndpointConnectionError):
        return fault_of_connection(error.kwargs.get("error"))
    if isinstance(error, _UNREACHABLE):
        return Fault(Kind.UNREACHABLE, f"the server cannot be reached: {type(error).__name__}")
    if isinstance(error, exceptions.SSLError):
        return Fault(Kind.NO_SUCH_SERVER, "no secure connection came about: certificate or TLS")
    if isinstance(error, exceptions.ReadTimeoutError):
        return Fault(Kind.TRANSIENT, "the server stopped answering")
    if isinstance(error, ResponseParserError):  # an older botocore parses a page before it is judged
        return unproven("with something that is not S3's")
    if isinstance(error, exceptions.HTTPClientError | exceptions.IncompleteReadError):
        return Fault(Kind.TRANSIENT, f"the connection broke: {type(error).__name__}")
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return Fault(
            Kind.REFUSED,
            "endpoint_url is not a URL",
            remedy="write http://host:port or https://host, in storage_options or in AWS_ENDPOINT_URL",
        )
    if isinstance(error, exceptions.BotoCoreError | ValueError):
        return Fault(Kind.REFUSED, f"the request cannot be made: {type(error).__name__}")
    return fault_of_connection(error)


def _fault_of_answer(response: Any) -> Fault:
    metadata = response.get("ResponseMetadata") or {}
    code = str((response.get("Error") or {}).get("Code") or "")
    # the server's words, not to be trusted with a terminal; its sentences may repeat an access key
    code = re.sub(r"[^A-Za-z0-9._-]", "", code)[:64]
    status = int(metadata.get("HTTPStatusCode") or 0)
    headers = metadata.get("HTTPHeaders") or {}
    after = str(headers.get("retry-after") or "")
    if code == "NoSuchBucket":
        problem = "no such bucket"
    elif status == 404 and code in ("404", "NoSuchKey"):
        problem = "no such object"
    else:
        problem = f"the server refused: {status} {'' if code == str(status) else code}".rstrip()
    remedy = _REMEDIES.get(code, "")
    region = re.sub(r"[^a-z0-9-]", "", str(headers.get(_REGION) or ""))[:32]
    if region and status in (301, 307, 400):
        remedy = f"the bucket is in {region}: client_kwargs={{'region_name': {region!r}}} in storage_options"
    elif status == 301 and not remedy:
        remedy = _REMEDIES["PermanentRedirect"]
    fault = fault_of_status(status, problem, wait=float(after) if after.isdecimal() else 0.0, remedy=remedy)
    fault.kind = _CODES.get(code, fault.kind)
    return fault
