"""The types of the interface: each can be named, costs nothing before it is used, and holds for consumers."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import archive
import archive.types
from archive import errors
from tests.pages import ROOT, python_program
from tests.test_front_door import modules_loaded_by

PUBLIC = (
    "archive",
    "archive.checkpoints",
    "archive.interop.fl4health",
    "archive.interop.flower",
    "archive.interop.torch",
    "archive.packers",
    "archive.tools",
    "archive.types",
)
OUTSIDE = {*dir(builtins), *typing.__all__, *collections.abc.__all__}
OUTSIDE |= {"dataclass", "datetime", "Executor", "np", "OrderedDict", "TracebackType"}
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
        _ = archive.types.Sieve


def test_importing_the_types_loads_nothing() -> None:
    loaded = {name for name in modules_loaded_by("import archive.types") if name.startswith("archive.")}
    assert loaded == {"archive.errors", "archive.types", "archive.version"}
    loaded = modules_loaded_by("from archive.types import *")
    assert loaded.isdisjoint({"h5py", "fsspec", "s3fs", "torch", "flwr", "numcodecs", "tqdm"})


@pytest.mark.parametrize(
    ("argument", "words"), [("mode", "Mode"), ("verify", "Verify"), ("access", "Access")]
)
def test_the_words_of_open_are_those_it_takes(argument: str, words: str, tmp_path: Path) -> None:
    path, choices = tmp_path / "a.h5", getattr(archive.types, words)
    archive.save([], path)
    assert get_origin(choices) is Literal
    for word in get_args(choices):
        with archive.open(path, **{argument: word}):
            pass
    other: dict[str, Any] = {argument: "other"}
    with pytest.raises((TypeError, ValueError), match="'other'"):
        archive.open(path, **other)


# --- as consumers' checkers see it

FOLLOWED = """
from typing_extensions import assert_type

import archive
from archive.interop.flower import Resumable, Streaming
from archive.types import Info, NDArray, SaveReport, Table


class Strategy: ...


store = archive.CheckpointStore("run", best_by=("accuracy", "max"))
assert_type(store.save({}, 1, background=False), SaveReport)
assert_type(store.save({}, 1), SaveReport | None)
assert_type(store.history(), Table)
records = archive.load("a.h5")
assert_type(records.array_records["model"]["w"].numpy(), NDArray)
assert_type(records.metric_records["fit"], archive.MetricRecord)
assert_type(records.config_records["run"], archive.ConfigRecord)
with archive.open("a.h5", mode="c", verify="open", access="pread") as saved:
    assert_type(saved["w"], archive.Array)
    assert_type(saved.info, Info)
    assert_type(saved["w"].read(slice(2)), NDArray)
    assert_type(saved.load("w.*").array_records["model"]["w"], archive.Array)
    for (name, key), array in saved.drain([("model", "w"), "b"]):
        assert_type((name, key, array), tuple[str, str, archive.Array])
assert_type(archive.tools.stats("a.h5"), Table)
assert_type(Resumable(Strategy(), "run"), Strategy)
assert_type(Streaming(Strategy(), "scratch"), Strategy)
losses: dict[str, float] = {"loss": 0.5}
names: dict[str, list[str]] = {"layers": ["a"]}
archive.MetricRecord(losses)
archive.ConfigRecord(names, keep_input=False)
"""
MISUSES = """import archive
archive.open("a.h5", mode="w")
archive.open("a.h5", verify="all")
archive.open("a.h5", access="map")
archive.load("a.h5")["model"].to_numpy_ndarrays()
archive.CheckpointStore("run", best_by=("accuracy", "largest"))
archive.CheckpointStore("run").open("newest")
archive.CheckpointStore("run").save({}, 1).digest
archive.recover(archive.ArchiveError("").partial)
archive.MetricRecord({"name": "a text"})
"""
TYPED = ["README.md"] + [
    f"docs/{name}.md"
    for name in (
        *("compare", "convert", "edit", "fl4health", "flower", "hdf5", "large-models", "mean", "pytorch"),
        *("rounds", "s3", "save", "tutorial"),
    )
]
"""Pages whose programs a consumer may copy into a project that is checked strictly."""
MYPY = """[mypy]
strict = true
[mypy-torch.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-h5py.*,fsspec.*]
ignore_missing_imports = true
"""
PYRIGHT = {"useLibraryCodeForTypes": False, "reportMissingImports": "none"}
"""What untyped libraries hand out is not inferred; torch need not be there."""


def check_types(command: list[str], folder: Path) -> str:
    """Run a type checker that finds this tree, as a consumer would, and return what it reports."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is missing: pip install 'pyright[nodejs]'")
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *inherited])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("checker", [[sys.executable, "-m", "mypy"], ["pyright"]], ids=["mypy", "pyright"])
def test_consumers_pass_and_misuses_do_not(checker: list[str], tmp_path: Path) -> None:
    if checker[0] == sys.executable:
        pytest.importorskip("mypy")
    programs = {"followed.py": FOLLOWED, "misuses.py": MISUSES}
    for page in TYPED:
        programs[f"page_{Path(page).stem.replace('-', '_').lower()}.py"] = python_program(page)
    configured = {"mypy.ini": MYPY, "pyrightconfig.json": json.dumps(PYRIGHT)}
    for name, text in (programs | configured).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    told = check_types([*checker, *programs], tmp_path)
    errors = re.findall(r"(\w+\.py):(\d+)[:\d]*(?: -)? error: ", told)
    assert {name for name, _ in errors} == {"misuses.py"}, told
    assert {int(line) for _, line in errors} == set(range(2, MISUSES.count("\n") + 1)), told


@pytest.mark.slow
def test_every_public_symbol_has_a_known_type(tmp_path: Path) -> None:
    command = ["pyright", "--pythonpath", sys.executable, "--verifytypes", "archive", "--ignoreexternal"]
    told = check_types(command, tmp_path)
    assert "Type completeness score: 100%" in told, told
