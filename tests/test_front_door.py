"""The front door: which names it has, and that opening it loads nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import archive

NAMES = [
    "GC_THRESHOLD",
    "Archive",
    "ArchiveError",
    "Array",
    "ArrayRecord",
    "CheckpointStore",
    "ConfigRecord",
    "ConfigsRecord",
    "Context",
    "MetricRecord",
    "MetricsRecord",
    "ParametersRecord",
    "RecordDict",
    "RecordSet",
    "SType",
    "array_from_numpy",
    "create",
    "load",
    "mean",
    "open",
    "recover",
    "reindex",
    "save",
    "table",
    "verify",
]

# The difference, not the whole: an editable install may load modules before any line of ours runs.
LOADED_BY = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def told_by_fresh_python(code: str) -> list[str]:
    """Run code in an interpreter of its own and return the JSON list it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=60)
    told: list[str] = json.loads(done.stdout)
    return told


def modules_loaded_by(statement: str) -> set[str]:
    """Return what a fresh interpreter loads to carry out a statement."""
    return set(told_by_fresh_python(LOADED_BY.format(statement=statement)))


def test_public_modules_need_no_import_of_their_own() -> None:
    code = "import archive, json; print(json.dumps([archive.tools.stats.__name__, archive.types.__all__[0]]))"
    assert told_by_fresh_python(code) == ["stats", "URL"]
    assert "archive.tools" not in modules_loaded_by("import archive")


def test_the_names_are_exactly_these() -> None:
    assert archive.__all__ == NAMES
    assert len(NAMES) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves(name: str) -> None:
    found = getattr(archive, name)
    assert found is not None
    assert vars(archive)[name] is found, "a resolved name is kept, so that __getattr__ runs once"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'archive' has no attribute 'sieve'"):
        _ = archive.sieve


def test_dir_lists_the_names_before_they_are_loaded() -> None:
    listed = told_by_fresh_python("import archive, json; print(json.dumps(dir(archive)))")
    assert set(NAMES) <= set(listed)
    assert listed == sorted(listed)


def test_import_loads_nothing_heavier_than_numpy() -> None:
    loaded = modules_loaded_by("import archive")
    outside = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert outside <= {"archive", "numpy"}
    assert {name for name in loaded if name.startswith("archive.")} == {"archive.errors", "archive.version"}


def test_records_need_no_storage_library() -> None:
    loaded = modules_loaded_by("import archive; archive.ArrayRecord, archive.RecordDict")
    assert loaded.isdisjoint({"h5py", "fsspec", "s3fs", "torch", "numcodecs", "tqdm", "pandas"})


@pytest.mark.parametrize("asked", ["handle.info", "handle['w'].numpy()"])
def test_opening_loads_nothing_of_saving_threads_or_networks(asked: str, tmp_path: Path) -> None:
    file = tmp_path / "small.h5"
    archive.save({"w": np.arange(6.0)}, file)
    loaded = modules_loaded_by(f"import archive; handle = archive.open({str(file)!r}); {asked}")
    ours = {name for name in loaded if name.startswith("archive.")}
    assert "archive.engine.read.reader" in ours
    unused = ("hdf5", "cli", "engine.write", "engine.foreign", "tools", "storage.remote.clients")
    for package in (f"archive.{name}" for name in unused):
        assert not {name for name in ours if f"{name}.".startswith(f"{package}.")}
    assert {name for name in ours if name.startswith("archive.display.")} <= {"archive.display.shortfields"}
    unneeded = (
        "records.showing",
        "engine.read.archivesummary",
        "engine.storagespec",
        "engine.read.load",
        "engine.read.scan",
        "storage.local.sink",
    )
    assert not ours & {f"archive.{name}" for name in unneeded}
    assert {name for name in ours if name.startswith("archive.storage.remote.")} <= {
        "archive.storage.remote.ranges"
    }
    assert loaded.isdisjoint({"h5py", "fsspec", "s3fs", "concurrent.futures", "ml_dtypes"})


def test_a_command_loads_no_other() -> None:
    loaded = modules_loaded_by("from archive.cli import main; main(['info', '/nowhere/model.h5'])")
    commands = {
        "info",
        "listing",
        "verify",
        "demo",
        "reindex",
        "recover",
        "mean",
        "edit",
        "copy",
        "gc",
        "cache",
    }
    assert loaded & {f"archive.cli.{command}" for command in commands} == {"archive.cli.info"}


def test_errors_are_reached_without_another_import() -> None:
    loaded = modules_loaded_by("import archive; archive.errors.DigestError")
    assert "archive.errors" in loaded
