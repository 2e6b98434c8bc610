"""``--cache`` and ``--cache-bytes`` of every command that reads a remote archive; no secret is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.cli.dispatch import main
from archive.storage.remote.cachefolder import list_cache
from tests.servers.web import WebServer, web_server

COMMANDS = {
    "info": ["info", "URL"],
    "ls": ["ls", "URL", "--long"],
    "verify": ["verify", "URL", "URL"],
    "cp": ["cp", "URL", "DIR/copy.h5"],
    "mean": ["mean", "--overwrite", "DIR/mean.h5", "URL", "URL"],
}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    archive.save({"w": np.random.default_rng(5).random(200_000)}, tmp_path / "m.h5")
    with web_server() as web:
        web.place("m.h5", (tmp_path / "m.h5").read_bytes())
        yield web


def asked(web: WebServer) -> int:
    """Return how many bytes were asked for, and forget the requests."""
    spans = [re.fullmatch(r"bytes=(\d*)-(\d+)", span) for _, _, span in web.requests]
    web.requests.clear()
    return sum(int(span[2]) - int(span[1] or 1) + 1 for span in spans if span)


def spelled(command: list[str], web: WebServer, folder: Path) -> list[str]:
    url = f"{web.endpoint}/plain/m.h5"
    return [word.replace("URL", url).replace("DIR", str(folder)) for word in command]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_second_run_reads_the_cache(web: WebServer, tmp_path: Path, command: list[str]) -> None:
    words = [*spelled(command, web, tmp_path), f"--cache={tmp_path}/cache"]
    assert main(words) == 0
    assert asked(web) > 50_000
    assert main([*words, "--cache-bytes", "1G"]) == 0
    assert 0 < asked(web) <= 2000
    assert len(list_cache(str(tmp_path / "cache"))) == 1
    assert main([*words, "--cache-bytes", "0"]) == 0
    assert sum(entry.cached_bytes for entry in list_cache(str(tmp_path / "cache"))) == 0


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_default_folder(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """No word after ``--cache`` is taken for a folder: it is an archive, such as OUT."""
    monkeypatch.setenv("FEDARCHIVE_CACHE", str(tmp_path / "default"))
    name, *words = spelled(command, web, tmp_path)
    for _ in range(2):
        web.requests.clear()
        assert main([name, "--cache", *words]) == 0
    assert asked(web) <= 2000
    assert list_cache(str(tmp_path / "default"))


def test_a_local_archive_needs_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save({"w": np.zeros(3)}, tmp_path / "m.h5")
    assert main(["verify", str(tmp_path / "m.h5"), f"--cache={tmp_path}/cache", "--cache-bytes=5k"]) == 0
    assert not (tmp_path / "cache").exists()
    assert "ok, 1 array," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--cache=s3://bucket/cache"], "argument --cache: a local folder, not 's3://bucket/cache'"),
        (["--cache", "--cache-bytes", "10 GB"], "argument --cache-bytes: a number of bytes"),
        (["--cache-bytes", "10GB"], "--cache-bytes limits a cache; give --cache too"),
    ],
)
@pytest.mark.parametrize("command", ["info", "ls", "verify"])
def test_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str, command: str
) -> None:
    archive.save({"w": np.zeros(3)}, tmp_path / "m.h5")
    assert main([command, str(tmp_path / "m.h5"), *words]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_prune_without_a_limit_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It was a traceback."""
    assert main(["cache", "prune", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


SECRET = "https://user:pass@127.0.0.1:9/a.h5?X-Amz-Signature=5ign"


@pytest.mark.parametrize(
    "words",
    [
        ["info", SECRET, "--round", "3"],
        ["ls", SECRET, "--client", "a"],
        ["stats", SECRET, "--cache-bytes", "3"],
        ["cp", "--cache-bytes", "3", SECRET, "a.h5"],
        ["diff", SECRET],
        ["edit", SECRET],
        ["edit", SECRET, "--keys", "w"],
        ["runs", "rm", SECRET],
        ["runs", "ls", SECRET, SECRET],
        ["gc", SECRET],
        ["gc", SECRET, "--json"],
    ],
    ids=" ".join,
)
def test_no_secret_of_a_url_is_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    told = "".join(capsys.readouterr())
    assert "//127.0.0.1:9/a.h5" in told
    assert not {"user", "pass", "5ign"} & set(re.split(r"\W+", told))
