"""Names of files in a store."""

from __future__ import annotations

from typing import Any

import pytest

from archive.checkpoints.paths import require_experiment
from archive.tools.spelling import spell, spellings, unspell


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


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("Berlin", "Berlin"),
        ("a.b-c_d@e,f(g)", "a.b-c_d@e,f(g)"),
        ("", "="),
        ("=", "=3d"),
        (".", "=2e"),
        ("a.", "a=2e"),
        (".a", "=2ea"),
        ("a ", "a=20"),
        ("~", "=7e"),
        ("%41", "=2541"),
        ("a+b", "a=2bb"),
        ('<>:"/\\|?*', "=3c=3e=3a=22=2f=5c=7c=3f=2a"),
        ("\n\x7f", "=0a=7f"),
        ("e\u0301", "e=cc=81"),
        ("\udc80", "=ed=b2=80"),
        ("con", "=63on"),
        ("CON", "=43ON"),
        ("Lpt1.tar", "=4cpt1.tar"),
        ("nul.", "nul=2e"),
        ("console", "console"),
    ],
)
def test_how_a_name_is_spelled(name: str, spelled: str) -> None:
    assert spell(name) == spelled
    for text in spellings(name):
        assert unspell(text) == name
