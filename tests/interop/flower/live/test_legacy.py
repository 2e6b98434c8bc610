"""Strategies of the old API, stopped by SIGKILL and resumed: bit for bit the run without a stop."""

from pathlib import Path

import pytest

from tests.interop.flower.live import legacyruns
from tests.interop.flower.live.killing import assert_resumes_bit_for_bit


@pytest.mark.parametrize("name", legacyruns.STRATEGIES)
def test_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    assert_resumes_bit_for_bit(legacyruns.run, name, tmp_path)
