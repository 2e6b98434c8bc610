"""What is shown of a URL, what address a pickle keeps of it, and which options are no secrets."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from archive.storage.redaction import public_options, redact_url
from archive.storage.url import parse_url

ADDRESSES = [
    "abfss://container@account.dfs.core.windows.net/run/a.h5",
    "oci://bucket@namespace/run/a.h5",
    "s3://b/what?.h5",
    "s3://b/what?a=b&c.h5",
    "s3://b/mail@host.h5",
    "s3://b/a::b.h5",
    "zip://a.h5::s3://b/what?.zip",
    "zip://in?ner/a@b.h5::simplecache::s3://b/c.zip",
    "sftp://user@host/a.h5",
    "github://organisation:repository@branch/a.h5",
    "hf://datasets/user/repository@main/a.h5",
    "memory://a?b.h5",
    "simplecache::file:///data/a.h5",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_is_shown_and_pickled_as_it_is(url: str) -> None:
    """Parts of these were taken for credentials and signatures: a pickle led to another object or none."""
    location = parse_url(url)
    assert location.display == url
    again = pickle.loads(pickle.dumps(location))
    assert (again.path, again.withheld) == (url, ())


@pytest.mark.parametrize(
    ("url", "shown", "address"),
    [
        ("https://user:pass@host/a.h5?versionId=v1", "https://host/a.h5", "https://host/a.h5?versionId=v1"),
        ("https://t0ken@host/a.h5?X-Amz-Signature=5ign", "https://host/a.h5", "https://host/a.h5"),
        ("https://host/a.h5?sig=5ign::5ign", "https://host/a.h5", "https://host/a.h5"),
        ("https://host/a.h5#token=5ign", "https://host/a.h5", "https://host/a.h5"),
        ("https://host/a.h5?versionId=v#5ign", "https://host/a.h5", "https://host/a.h5?versionId=v"),
        ("s3://b/what?.h5?versionId=v1", "s3://b/what?.h5", "s3://b/what?.h5?versionId=v1"),
        (
            "zip://a?.h5::https://user:pass@host/b.zip?sig=5ign",
            "zip://a?.h5::https://host/b.zip",
            "zip://a?.h5::https://host/b.zip",
        ),
        (
            "filecache::zip://a.h5::abfss://c@account/b.zip?sv=2&sig=5ign",
            "filecache::zip://a.h5::abfss://c@account/b.zip",
            "filecache::zip://a.h5::abfss://c@account/b.zip",
        ),
        ("sftp://user:p@ss@host/a.h5", "sftp://host/a.h5", "sftp://host/a.h5"),
    ],
)
def test_secrets_are_taken_out(url: str, shown: str, address: str) -> None:
    redacted = redact_url(url)
    assert (redacted.shown, redacted.address) == (shown, address)
    text = pickle.dumps(parse_url(url))
    assert not any(secret in text for secret in (b"pass", b"p@ss", b"5ign", b"t0ken"))
    again = pickle.loads(text)
    assert again.path == address
    assert again.withheld == redacted.withheld
    assert pickle.loads(pickle.dumps(again)).withheld == redacted.withheld


OPTIONS: dict[str, Any] = {
    "key": "AKIA",
    "secret": "5ecret",
    "token": 5,
    "anon": False,
    "use_ssl": True,
    "endpoint_url": "https://host:9000",
    "account_name": "account",
    "client_kwargs": {
        "region_name": "eu-1",
        "aws_secret_access_key": "5ecret",
        "endpoint_url": "https://user:5ecret@host",
        "timeout": 5.0,
    },
    "headers": {"Authorization": "5ecret"},
    "s3": {"config_kwargs": {"max_pool_connections": 5}},
    "credential": object(),
    "odd": "5ecret",
    "asynchronous": None,
}


def test_options_that_are_no_secrets() -> None:
    public, withheld = public_options(OPTIONS)
    assert public == {
        "anon": False,
        "use_ssl": True,
        "endpoint_url": "https://host:9000",
        "account_name": "account",
        "client_kwargs": {"region_name": "eu-1", "timeout": 5.0},
        "s3": {"config_kwargs": {"max_pool_connections": 5}},
        "asynchronous": None,
    }
    assert withheld == [
        *("key", "secret", "token", "client_kwargs.aws_secret_access_key", "client_kwargs.endpoint_url"),
        *("headers.Authorization", "credential", "odd"),
    ]
    location = pickle.loads(pickle.dumps(parse_url("s3://b/a.h5", OPTIONS)))
    assert location.options == public
    assert location.withheld == tuple(withheld)


def test_a_copy_in_this_process_keeps_its_secrets() -> None:
    """A deep copy of an open remote archive was refused by its server, and the error spoke of a pickle."""
    url = "https://user:pass@host/a.h5?sig=5ign"
    location = copy.deepcopy([parse_url(url, OPTIONS)])[0]
    assert (location.path, location.options, location.withheld) == (url, OPTIONS, ())
