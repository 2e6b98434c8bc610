"""Settings of an s3fs instance as obstore has them: a request means the same through either client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError

from archive.errors import UnsupportedURLError
from archive.storage.remote.clients import s3client
from archive.storage.remote.clients.connections import CONNECT_SECONDS, READ_SECONDS

__all__ = ["UntranslatedError", "settings_of"]

CREDENTIAL_SECONDS = 300
"""After this botocore is asked again for credentials, which it may have renewed."""
FOREVER = timedelta(days=365)
"""obstore's limit of a whole request: the one that `run_on` keeps grows with the request."""

_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?")
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


class UntranslatedError(UnsupportedURLError):
    """Settings that s3fs has and obstore has not."""


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
