"""Libraries that an environment may be without: a test that asks for one of them is skipped there."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["torch"]


def torch() -> Any:
    """Return torch. For Python 3.10 the registry has it with gigabytes of accelerator libraries only."""
    return pytest.importorskip("torch", reason="torch is not installed")
