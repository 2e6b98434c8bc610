"""Settings of the whole suite."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

# A shared machine may stall any single example; a hang is caught by pytest's timeout instead.
# The quick tests draw the same examples every time: a change is never blamed for what another one broke.
# The slow tests draw new ones (`--hypothesis-profile=random`, as `poe slow` says).
settings.register_profile("fedarchive", settings(deadline=None, max_examples=40, derandomize=True))
settings.register_profile("random", settings(deadline=None, max_examples=40, derandomize=False))
settings.load_profile("fedarchive")

# A shell has what it starts in the background ignore Ctrl-C, and children inherit that; some tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The servers of the tests are on this machine: a proxy of the environment does not lead there.
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]


def _is_missing(name: str) -> bool:
    """Tell whether a folder such as /proc, a module, or something of a module is missing (tests/hidden)."""
    try:
        if name.startswith("/"):
            os.listdir(name)
            return False
        module, _, attribute = name.partition(".")
        found = importlib.import_module(module)
    except (FileNotFoundError, ImportError):
        return True
    return bool(attribute) and not hasattr(found, attribute)


SLOW_SECONDS = 900
"""Of one slow test, where it has no marker of its own: the longest take a minute, on a busy machine five."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time; skip what needs something that is not here."""
    for item in items:
        for marker in item.iter_markers("needs"):
            for name in filter(_is_missing, marker.args):
                item.add_marker(pytest.mark.skip(reason=f"about {name}, which is not here"))
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        examples = item.dtest.examples if isinstance(item, pytest.DoctestItem) else []
        named = any("import torch" in example.source or ", torch" in example.source for example in examples)
        if named and importlib.util.find_spec("torch") is None:
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))
        if isinstance(item, pytest.DoctestItem) and item.path.parent.name == "interop":
            library = item.path.stem
            if library in ("dask", "torch", "flower") and importlib.util.find_spec(library) is None:
                item.add_marker(pytest.mark.skip(reason=f"{library} is not installed"))


@pytest.fixture(scope="module", autouse=True)
def _unwalked() -> None:
    """Spare every later `gc.collect` a walk through what the tests before imported, torch above all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    """The S3 server of all tests; each has a prefix of its own there."""
    pytest.importorskip("moto", reason="moto[server] is not installed")
    from tests.servers.s3 import s3_server

    with s3_server() as server:
        yield server
