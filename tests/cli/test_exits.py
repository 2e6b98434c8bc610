"""Every error of the tree has the exit code its handler needs."""

from __future__ import annotations

import itertools

import pytest

from archive import errors
from archive.cli.exits import DAMAGED, OK, USAGE, exit_code, worst

DAMAGE = {"DamagedError", "DigestError", "TruncatedError", "HostileFileError"}


@pytest.mark.parametrize("name", errors.__all__)
def test_exit_code(name: str) -> None:
    error = getattr(errors, name)("what is wrong")
    assert exit_code(error) == (DAMAGED if name in DAMAGE else USAGE)


def test_worst_does_not_depend_on_order() -> None:
    assert {worst(order) for order in itertools.permutations([OK, DAMAGED, USAGE])} == {DAMAGED}
    assert {worst(order) for order in itertools.permutations([OK, USAGE, OK])} == {USAGE}
