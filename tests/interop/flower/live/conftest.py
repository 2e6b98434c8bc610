"""Tests of Flower's own live objects: pytest runs them under an interpreter that has flwr.

`tests/interop/test_flwr.py` does that for every release; without flwr these modules are skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.flower.live.names import Names, flower_names, our_names

collect_ignore_glob = ["[!t]*.py"]  # no doctests of helpers: most import flwr


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what flwr imports is deprecated by its own dependencies
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def flower() -> Names:
    return flower_names()


@pytest.fixture(scope="session")
def ours(flower: Names) -> Names:
    return our_names(flower)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.h5")
