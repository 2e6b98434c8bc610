"""Any records come back equal; any broken rule is a typed error that names it (fault H1)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import archive
from archive.testing.strategies import records
from tests.bounds import bounded
from tests.breakages import BREAKAGES, Breakage
from tests.brokenarchives import BrokenArchive, broken_archives
from tests.crafting import Crafted, write_sample
from tests.handout import hand_out, read_everything
from tests.spec.documents import DEFINED


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(wanted=records())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_records_come_back(folder: Path, wanted: archive.RecordSet | archive.RecordDict) -> None:
    path = folder / "any.h5"
    archive.save(wanted, path, durable=False)
    # bit for bit, because NaN is not equal to itself
    assert hand_out(archive.load(path)) == hand_out(wanted)
    with archive.open(path) as handle:
        assert hand_out(handle) == hand_out(wanted)
        assert handle.verify().ok


@given(broken=broken_archives())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_broken_rule_is_named(folder: Path, broken: BrokenArchive) -> None:
    require_named(folder, broken)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(broken=broken_archives())
@settings(max_examples=20_000, suppress_health_check=[HealthCheck.too_slow])
def test_any_broken_rule_is_named_at_length(folder: Path, broken: BrokenArchive) -> None:
    require_named(folder, broken)


def test_a_failure_names_the_rule_and_not_the_bytes() -> None:
    """Hypothesis shows every field of a dataclass, and warns where that is long: instead of the failure."""

    @given(broken=broken_archives())
    @settings(max_examples=1, database=None, phases=[Phase.generate])
    def fail(broken: BrokenArchive) -> None:
        raise AssertionError("as it should")

    with pytest.raises(AssertionError, match="as it should") as caught:
        fail()
    assert "data=" not in "".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_each_rule_once(folder: Path, breakage: Breakage) -> None:
    crafted = Crafted(write_sample(folder / "sample.h5"))
    breakage.change(crafted, lambda low, high: low)
    require_named(folder, BrokenArchive(breakage, crafted.assemble()))


@pytest.mark.parametrize("name", ["file_bytes", "footer_places"])
def test_no_distance_draws_the_right_number(folder: Path, name: str) -> None:
    """Parts that are put together anew may have another length than before: it is not drawn either."""
    breakage = next(found for found in BREAKAGES if found.change.__name__ == name)
    sample = Crafted(write_sample(folder / "sample.h5"))
    place = [3] if name == "footer_places" else []  # of the index: its length
    for distance in range(1, 65):
        crafted, drawn = sample.copy(), iter([*place, distance, 1, 0, 0, 0])  # the last: the first of four
        breakage.change(crafted, lambda low, high, drawn=drawn: next(drawn))
        require_named(folder, BrokenArchive(breakage, crafted.assemble()))


def require_named(folder: Path, broken: BrokenArchive) -> None:
    path = folder / "broken.h5"
    path.write_bytes(broken.data)
    error = bounded(lambda: read_everything(path))
    assert isinstance(error, broken.breakage.error), f"{broken.breakage.name}: {error!r}"
    assert re.search(broken.breakage.problem, str(error)), f"{broken.breakage.name}: {error}"
    assert error.path == str(path)


def test_rules_are_sentences_of_the_specification() -> None:
    assert {breakage.rule for breakage in BREAKAGES} <= set(DEFINED)
    names = [breakage.name for breakage in BREAKAGES]
    assert len(set(names)) == len(names)
