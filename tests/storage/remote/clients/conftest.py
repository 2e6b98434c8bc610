"""Servers of the tests: one S3 server for all of them, a folder of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from archive.storage.remote.clients.retry import POLICY, VARIABLE, retried
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds of an outage are waited for: moto answers 500 to what is no outage."""
    monkeypatch.setenv(VARIABLE, "3")


@pytest.fixture
def folder() -> str:
    """A prefix that nothing else uses."""
    return uuid.uuid4().hex


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that breaks things once: nobody need wait long before the next try."""
    assert retried.__kwdefaults__ is not None
    monkeypatch.setitem(
        retried.__kwdefaults__, "policy", replace(POLICY, patience=3.0, first_wait=0.01, reach=0.02)
    )
    with Proxy(server.endpoint) as proxy:
        yield proxy
