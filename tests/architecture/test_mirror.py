"""Tests of a module lie at its path: tests/format/test_index.py of archive/format/index.py."""

from __future__ import annotations

from pathlib import Path

import archive

TESTS = Path(__file__).parents[1]
ROOMS = (
    "checkpoints",
    "cli",
    "display",
    "engine",
    "format",
    "hdf5",
    "interop",
    "records",
    "report",
    "storage",
    "tools",
)
ELSEWHERE = {
    "checkpoints/test_faults.py",  # a store on a disk that fails
    "checkpoints/test_secrets.py",  # a store and those of Flower: what they show and pickle
    "checkpoints/test_sharedtables.py",  # tables and histories that an executor reads
    "checkpoints/test_sharing.py",  # a store that several processes use
    "checkpoints/test_stateful.py",  # a store against a model of it
    "interop/test_dask_cluster.py",  # arrays of interop.dask on worker processes
    "interop/test_kinds.py",  # kinds of state, whichever module makes them
    "interop/test_flwr.py",  # runs interop/flower/live under the interpreters of several releases of Flower
    "storage/remote/clients/test_network.py",  # IPv6, proxies, regions, whichever client
    "storage/remote/clients/test_tls.py",  # certificates, whichever client speaks TLS
    "records/test_records.py",  # the package itself
    "report/test_browser.py",  # the page as a browser shows it
}
"""Tests of more than one module, with a reason to stay in their room."""
LIVE = "interop/flower/live/"
"""Tests that run under an interpreter which has Flower."""


def test_every_test_file_names_its_module() -> None:
    stray = []
    for room in ROOMS:
        for path in sorted((TESTS / room).rglob("test_*.py")):
            name = path.relative_to(TESTS).as_posix()
            module = Path(archive.__file__).parent / name.replace("test_", "", 1)
            if name not in ELSEWHERE and not name.startswith(LIVE) and not module.is_file():
                stray.append(name)
    assert stray == []
