"""Strategies of the message-based API, stopped by SIGKILL and resumed: bit for bit the run without a stop."""

from pathlib import Path

import pytest

from tests.interop.flower.live import messageruns
from tests.interop.flower.live.killing import assert_resumes_bit_for_bit


@pytest.mark.parametrize("name", messageruns.STRATEGIES)
def test_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    assert_resumes_bit_for_bit(messageruns.run, name, tmp_path)
