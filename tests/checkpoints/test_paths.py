"""Names of files in a store."""

from __future__ import annotations

from typing import Any

import pytest

from archive.checkpoints.paths import require_experiment


@pytest.mark.parametrize("name", ["adam", "Adam 2", "a.b", "größe", "~", "%2F"])
def test_an_experiment(name: str) -> None:
    assert require_experiment(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/", "a\0", "rounds", "contexts"])
def test_not_the_folder_of_an_experiment(name: str) -> None:
    with pytest.raises(ValueError, match="experiment must"):
        require_experiment(name)


@pytest.mark.parametrize("name", [None, 1, b"adam"])
def test_not_a_name(name: Any) -> None:
    with pytest.raises(TypeError, match="experiment must be a str, not "):
        require_experiment(name)
