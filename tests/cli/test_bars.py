"""Progress bars for people alone."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminal import on_terminal

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

pytest.importorskip("tqdm")

BAR = re.compile(r"(verifying|copying|averaging): +\d+%")


@pytest.fixture
def folder(saved: Path) -> Path:
    """Twenty archives, one of them damaged."""
    folder = saved.with_name("folder")
    folder.mkdir()
    for number in range(20):
        shutil.copy(saved, folder / f"{number:02}.h5")
    data = bytearray(saved.read_bytes())
    data[4100] ^= 1
    (folder / "07.h5").write_bytes(data)
    return folder


def test_a_bar_leaves_the_lines_whole(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    code, shown = on_terminal([*command, "verify", folder], environment | {"NO_COLOR": "1"})
    assert code == 1
    assert BAR.search(shown)
    lines = [line.rpartition("\r")[2] for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")]
    assert all(line.startswith(f"{folder}/") for line in lines if ": ok, " in line)
    assert sum(": ok, " in line for line in lines) == 19
    assert not any(BAR.search(line) for line in lines[-3:]), "the bar is gone in the end"


def test_no_bar_where_stderr_is_a_pipe(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    code, shown = on_terminal([*command, "verify", folder], environment, stderr=False)
    assert (code, BAR.search(shown)) == (1, None)
    code, shown = on_terminal([*command, "verify", folder], environment, stdout=False)
    assert code == 1
    assert BAR.search(shown)


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_no_bar_between_what_programs_read(
    form: str, folder: Path, command: list[str], environment: dict[str, str]
) -> None:
    code, shown = on_terminal([*command, "verify", folder, form], environment)
    assert (code, BAR.search(shown)) == (1, None)


@pytest.mark.parametrize("words", [["verify", "{0}"], ["cp", "{0}", "{1}"], ["mean", "{1}", "{0}", "{0}"]])
def test_commands_with_a_bar(
    words: list[str], tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    import numpy as np

    import archive

    archive.save({"w": np.zeros(1 << 21), "v": np.zeros(1 << 21)}, tmp_path / "w.h5", durable=False)
    words = [word.format(tmp_path / "w.h5", tmp_path / "out.h5") for word in words]
    code, shown = on_terminal([*command, *words], environment)
    assert (code, bool(BAR.search(shown))) == (0, True)


def test_without_tqdm_there_is_no_bar(
    folder: Path, tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "tqdm.py").write_text("raise ImportError('an extra')\n")
    paths = f"{blocked}:{environment.get('PYTHONPATH', '')}"
    code, shown = on_terminal([*command, "verify", folder], environment | {"PYTHONPATH": paths})
    assert (code, BAR.search(shown), "Traceback" in shown) == (1, None, False)


@pytest.mark.slow
def test_a_bar_over_a_prefix_of_a_bucket(
    server: S3Server, folder: Path, command: list[str], environment: dict[str, str]
) -> None:
    from archive.tools import copy
    from tests.servers.s3 import BUCKET

    prefix = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    for file in sorted(folder.iterdir())[:4]:
        copy(file, f"{prefix}/{file.name}", out_options=server.options())
    keys = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
    words = ["verify", prefix, "-o", f"endpoint_url={server.endpoint}"]
    code, shown = on_terminal([*command, *words], environment | keys)
    assert (code, bool(BAR.search(shown)), shown.count(": ok, ")) == (0, True, 4)
