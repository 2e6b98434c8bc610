"""Tests with FL4Health itself: `tests/fl4health/test_live.py` runs them under an interpreter that has it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

collect_ignore_glob = ["[!t]*.py"]  # no doctests of helpers: they import fl4health


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what FL4Health imports is deprecated by its own dependencies
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.filterwarnings("ignore"))
