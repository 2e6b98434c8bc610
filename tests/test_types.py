"""The types of the interface: each can be named, and costs nothing before it is used."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

import archive
import archive.types
from archive import errors
from tests.test_front_door import modules_loaded_by

PUBLIC = (
    "archive",
    "archive.checkpoints",
    "archive.interop.flower",
    "archive.interop.torch",
    "archive.packers",
    "archive.tools",
    "archive.types",
)
OUTSIDE = {*dir(builtins), *typing.__all__, *collections.abc.__all__}
OUTSIDE |= {"dataclass", "datetime", "np", "OrderedDict", "TracebackType"}
MADE_BY_CALLS = [archive.Archive, archive.Context]
MADE_BY_CALLS += [getattr(archive.types, name) for name in archive.types.__all__]
INTERNAL = {"archive.types.ArchiveWriter.add_stored"}  # the tools call it
NAMED = {*archive.__all__, *archive.types.__all__, *errors.__all__}


def public_objects() -> Iterator[tuple[str, Any]]:
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def annotations_of(name: str, found: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield place, annotation and function of what a user of an object sees."""
    if isinstance(found, type):
        for attribute, text in inspect.get_annotations(found).items():
            if not attribute.startswith("_"):
                yield f"{name}.{attribute}", getattr(text, "__forward_arg__", text), found
        for attribute, member in vars(found).items():
            if not attribute.startswith("_") or (attribute == "__init__" and found not in MADE_BY_CALLS):
                inner = getattr(member, "fget", None) or getattr(member, "func", None)
                yield from annotations_of(f"{name}.{attribute}", inner or getattr(member, "__func__", member))
    elif inspect.isfunction(found):
        for parameter, text in found.__annotations__.items():
            yield f"{name}({parameter})", text, found


@pytest.mark.parametrize(("name", "found"), list(public_objects()))
def test_every_type_of_the_interface_can_be_named(name: str, found: Any) -> None:
    for place, text, owner in annotations_of(name, found):
        if place.partition("(")[0] in INTERNAL:
            continue
        variables = vars(inspect.getmodule(owner))
        words = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        made_here = {word for word in words if isinstance(variables.get(word), typing.TypeVar)}
        assert words - made_here <= OUTSIDE | NAMED, place


@pytest.mark.parametrize("name", archive.types.__all__)
def test_every_name_resolves(name: str) -> None:
    found = getattr(archive.types, name)
    assert found is not None
    assert vars(archive.types)[name] is found, "loaded once"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert set(archive.types.__all__) <= set(dir(archive.types))
    with pytest.raises(AttributeError, match="no attribute 'Sieve'"):
        _ = archive.types.Sieve  # type: ignore[attr-defined]


def test_importing_the_types_loads_nothing() -> None:
    loaded = {name for name in modules_loaded_by("import archive.types") if name.startswith("archive.")}
    assert loaded == {"archive.errors", "archive.types", "archive.version"}
    loaded = modules_loaded_by("from archive.types import *")
    assert loaded.isdisjoint({"h5py", "fsspec", "s3fs", "torch", "flwr", "numcodecs", "tqdm"})


@pytest.mark.parametrize(
    ("argument", "words"), [("mode", "Mode"), ("verify", "Verify"), ("access", "Access")]
)
def test_the_words_of_open_are_those_it_takes(argument: str, words: str, tmp_path: Any) -> None:
    path, choices = tmp_path / "a.h5", getattr(archive.types, words)
    archive.save([], path)
    assert get_origin(choices) is Literal
    for word in get_args(choices):
        with archive.open(path, **{argument: word}):
            pass
    with pytest.raises((TypeError, ValueError), match="'other'"):
        archive.open(path, **{argument: "other"})
