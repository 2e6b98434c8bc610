"""``fedarchive report``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archive.cli import main
from tests.report.samples import save_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_run(tmp_path / "run", rounds=1, clients=2)
    return tmp_path / "run"


def test_a_run(run: Path, tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "run.html"
    assert main(["report", str(run), "-o", str(page)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{page}: ")
    assert told.err == ""
    arguments = [
        "report",
        str(run),
        "--compare",
        str(run / "rounds/00000001.h5"),
        "-o",
        str(page),
        "--title",
        "A",
    ]
    assert main([*arguments, "--json"]) == 0
    told_json = json.loads(capsys.readouterr().out)
    assert told_json == {
        "url": str(page),
        "file_bytes": page.stat().st_size,
        "seconds": told_json["seconds"],
        "errors": [],
    }
    assert "<title>A</title>" in page.read_text(encoding="utf-8")
    assert main([*arguments, "--no-overwrite"]) == 2


def test_damage_is_reported_and_the_page_is_there(run: Path, tmp_path: Path, capsys: Captured) -> None:
    broken = run / "rounds/00000000.h5"
    broken.write_bytes(broken.read_bytes()[:3000])
    assert main(["report", str(run), "-o", str(tmp_path / "run.html")]) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "00000000.h5" in told.err
    assert (tmp_path / "run.html").stat().st_size > 20_000


@pytest.mark.parametrize(
    "arguments", [["RUN"], ["RUN", "-o", "x.html", "--rounds", "0"], ["no", "-o", "x.html"]]
)
def test_wrong_arguments(run: Path, arguments: list[str], capsys: Captured) -> None:
    assert main(["report", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("x.html").exists()
