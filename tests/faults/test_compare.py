"""The harness that finds nothing in archives finds much in their peers: it can find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.compare import FORMATS, compare, table


@pytest.mark.parametrize(
    "mutations", [60, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_the_same_damage_to_peers(mutations: int, figures: Callable[[str], None]) -> None:
    totals = compare(mutations)
    figures("\n" + table(totals) + "\n")
    for kind in FORMATS:
        assert sum(totals[kind].values()) == mutations
    ours = totals["fedarchive"]
    assert (ours["silent"], ours["signal"], ours["hang"], ours["memory"]) == (0, 0, 0, 0)
    # negative controls: formats without digests take damaged bytes for whole
    assert totals["h5py"]["silent"]
    assert totals["safetensors"]["silent"]
