"""What of a URL and its options may be shown, and what may be pickled: no credentials, no signatures.

What is shown is never used as an address. ``container@account`` and a ``?`` in a key belong to the address; a
password before the ``@`` and a signature after the ``?`` do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Redacted", "public_options", "redact_url"]

_LINKS = re.compile(r"::(?=[A-Za-z][\w+.-]*::?[/\w])")
"""Where the next link of a chain begins, as in ``zip://a.h5::s3://bucket/b.zip``."""
_USERINFO = re.compile(r"[^/?#]*@")
_HTTP = frozenset({"http", "https", "webdav", "webdavs", "dav", "davs"})
"""A ``?`` begins a query, whatever follows, and a name before the ``@`` may be a token."""
_COLON_IS_NO_PASSWORD = frozenset({"git", "github", "gitlab"})
"""``github://organisation:repository@branch/path``."""
_VERSION = re.compile(r"versionid=", re.IGNORECASE)
_SECRET = re.compile(
    r"(?:[^=]*[-_])?(?:\w*accesskeyid|credential|key|password|secret|sig|signature|token)=", re.IGNORECASE
)
_PUBLIC = frozenset(
    {
        "account_host",
        "account_name",
        "addressing_style",
        "block_size",
        "bucket",
        "cache_storage",
        "cache_type",
        "check_files",
        "compression",
        "connect_timeout",
        "container",
        "default_block_size",
        "default_cache_type",
        "endpoint",
        "endpoint_url",
        "expiry_time",
        "fo",
        "host",
        "location",
        "max_attempts",
        "max_concurrency",
        "max_pool_connections",
        "mode",
        "namespace",
        "org",
        "port",
        "profile",
        "profile_name",
        "project",
        "protocol",
        "read_timeout",
        "ref",
        "region",
        "region_name",
        "repo",
        "requests_timeout",
        "revision",
        "root",
        "sha",
        "signature_version",
        "target_protocol",
        "tenant_id",
        "timeout",
        "user",
        "username",
        "verify",
    }
)
"""Options that are no secrets by their names. Any other may be one, whatever it holds but a bool or None."""


class Redacted(NamedTuple):
    """A URL without secrets."""

    shown: str
    """For messages: also without a version."""
    address: str
    """To be used: with the version."""
    withheld: tuple[str, ...]
    """What was taken out."""


def redact_url(url: str) -> Redacted:
    """Take credentials and signatures out of every link of a URL.

    Examples
    --------
    >>> redact_url("https://user:pass@host/a.h5?X-Amz-Signature=5ign").address
    'https://host/a.h5'
    >>> redact_url("abfss://container@account.dfs.core.windows.net/what?.h5").shown
    'abfss://container@account.dfs.core.windows.net/what?.h5'
    """
    shown, addresses, withheld = [], [], []
    for link in _LINKS.split(url):
        scheme, mark, rest = link.partition("://")
        user = _USERINFO.match(rest) if mark else None
        if user and _is_secret_user(scheme.lower(), user[0]):
            rest = rest[user.end() :]
            withheld.append("the credentials in the URL")
        base, query = _split_query(scheme.lower(), rest) if mark else (rest, "")
        versions = [part for part in query.split("&") if _VERSION.match(part)]
        if len(versions) < len(query.split("&")) and query:
            withheld.append("the query of the URL")
        shown.append(scheme + mark + base)
        addresses.append(scheme + mark + base + (f"?{versions[0]}" if versions else ""))
    return Redacted("::".join(shown), "::".join(addresses), tuple(withheld))


def public_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that are no secrets, and the names of the others.

    Examples
    --------
    >>> public_options({"key": "AKIA", "anon": False, "client_kwargs": {"endpoint_url": "http://host"}})
    ({'anon': False, 'client_kwargs': {'endpoint_url': 'http://host'}}, ['key'])
    """
    public: dict[str, Any] = {}
    withheld = []
    for name, value in options.items():
        if isinstance(value, dict):
            inner, names = public_options(value)
            withheld += [f"{name}.{each}" for each in names]
            if inner or not names:
                public[name] = inner
        elif _is_public(name, value):
            public[name] = value
        else:
            withheld.append(str(name))
    return public, withheld


def _is_public(name: object, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if not isinstance(value, (str, int, float)) or name not in _PUBLIC:
        return False
    return not isinstance(value, str) or "://" not in value or redact_url(value).address == value


def _is_secret_user(scheme: str, user: str) -> bool:
    return scheme in _HTTP or (":" in user and scheme not in _COLON_IS_NO_PASSWORD)


def _split_query(scheme: str, rest: str) -> tuple[str, str]:
    """Return a link without its query, and the query; outside of HTTP a ``?`` may belong to a name."""
    if scheme in _HTTP:
        base, _, query = rest.partition("#")[0].partition("?")  # a fragment is not sent
        return base, query
    base, mark, query = rest.rpartition("?")
    parts = query.split("&")
    return (
        (base, query)
        if mark and any(_VERSION.match(part) or _SECRET.match(part) for part in parts)
        else (rest, "")
    )
