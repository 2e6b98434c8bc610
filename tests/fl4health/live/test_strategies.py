"""FL4Health's strategies made Resumable: a fresh one goes on with the bits of one that did not stop."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fl4health")

from archive import CheckpointStore
from archive.interop.flower import Resumable
from archive.interop.flower.strategystate import capture
from archive.packers import (
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from tests.fl4health.live.strategies import NAMES, STRATEGIES, run

PACKERS: dict[str, tuple[Any, list[str]]] = {
    "Scaffold": (ParameterPackerWithControlVariates(len(NAMES)), ["model", "control_variates"]),
    "ClientLevelDPFedAvgM": (ParameterPackerWithClippingBit(), ["model", "clipping_bound"]),
    "FedAvgWithAdaptiveConstraint": (ParameterPackerAdaptiveConstraint(), ["model", "drift_penalty_weight"]),
    "FedAvgDynamicLayer": (ParameterPackerWithLayerNames(), ["model", "names"]),
    "FedAvgSparseCooTensor": (SparseCooParameterPacker(), ["model.0.weight", "model.names"]),
}


def seed(number: int) -> None:
    """Seed the generators that FL4Health draws samples and noise from."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002


def state_of(strategy: Any) -> tuple[Any, dict[str, bytes]]:
    captured = capture(strategy)
    arrays = {name: array.data for name, array in captured.arrays.items()}
    return ordered(captured.tree), arrays


def ordered(tree: Any) -> Any:
    """Return a tree with its dicts in the order of their keys: they are in the order of arrival."""
    if isinstance(tree, dict):
        found = {key: ordered(part) for key, part in tree.items()}
        return {**found, "items": sorted(found["items"], key=repr)} if "items" in found else found
    return list(map(ordered, tree)) if isinstance(tree, list) else tree


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_fresh_strategy_goes_on_with_the_bits_of_the_first(name: str, tmp_path: Path) -> None:
    make, reply = STRATEGIES[name]
    seed(1)
    whole = Resumable(make(), tmp_path / "whole")
    expected = run(whole, reply, 3)
    seed(1)
    first = Resumable(make(), tmp_path / "run")
    run(first, reply, 2)
    seed(99)
    again = Resumable(make(), tmp_path / "run")
    run(again, reply, 2)
    assert state_of(again) == state_of(first)
    seed(98)
    last = Resumable(make(), tmp_path / "run")
    assert run(last, reply, 3) == expected
    assert state_of(last) == state_of(whole)
    assert capture(last).left_out == []


@pytest.mark.parametrize("name", PACKERS)
def test_a_round_has_the_parts_of_a_packed_list_by_name(name: str, tmp_path: Path) -> None:
    make, reply = STRATEGIES[name]
    packer, parts = PACKERS[name]

    def named(folder: str) -> Any:
        return Resumable(make(), tmp_path / folder, names=NAMES, packer=packer)

    seed(1)
    expected = run(named("whole"), reply, 3)
    seed(1)
    run(named("run"), reply, 2)
    with CheckpointStore(tmp_path / "run/default").open("latest") as saved:
        records: Any = saved.records
        assert set(parts) <= set(records)
        assert "model" not in records or set(records["model"]) <= set(NAMES)
    seed(99)
    assert run(named("run"), reply, 3) == expected
