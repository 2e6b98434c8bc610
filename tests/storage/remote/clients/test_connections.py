"""A process forks beside its remote files: the child leaves its parent's uploads and connections alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.forks import INERT, Play, judge, parent
from tests.servers.s3 import BUCKET, S3Server
from tests.servers.web import web_server

pytestmark = pytest.mark.needs("os.fork")

READING = """
import os, sys
import archive
with archive.open(sys.argv[1]) as handle:
    assert (handle["0"].numpy() == 0).all()
    child = os.fork()
    if not child:
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    assert all((handle[str(number)].numpy() == number).all() for number in range(1, 4))
"""
FEW = (("exit", False), ("return", False))
MANY = (*FEW, ("own", False), ("error", True), ("return", True), ("_exit", True))


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    with parent() as play:
        yield play


@pytest.mark.parametrize(
    ("writer", "moment", "options", "scenes"),
    [
        *(
            pytest.param(*case, MANY, marks=pytest.mark.slow)
            for case in (
                ("generator", 3, {}),
                ("generator", 3, {"overwrite": False}),
                ("create", 3, {}),
                ("generator", 3, {"keep_input": False}),
                ("planned", 0, {}),
            )
        ),
    ],
)
def test_upload(
    tmp_path: Path,
    server: S3Server,
    folder: str,
    play: Play,
    writer: str,
    moment: int,
    options: Any,
    scenes: Any,
) -> None:
    if options.get("overwrite") is False and not server.conditional_multipart:
        pytest.skip("this server ignores preconditions on uploads in parts, so that such a save is refused")
    where = {"bucket": BUCKET, "prefix": folder, "server": server.options()}
    request = {"place": "bucket", "writer": writer, "moment": moment, "options": {**options, **where}}
    inert = INERT | ({"return": None} if writer == "create" else {})
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, **request), inert)


def test_a_child_that_ends_leaves_the_connections_alone(tmp_path: Path) -> None:
    """Its copies of the file systems close what they have open; the parent goes on by the same connection."""
    path = tmp_path / "model.h5"
    archive.save({str(number): np.full(1 << 17, number) for number in range(4)}, path)
    with web_server() as web:
        web.place("model.h5", path.read_bytes())
        command = [sys.executable, "-c", READING, f"{web.endpoint}/plain/model.h5"]
        subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=60)
        assert web.connections == 1
