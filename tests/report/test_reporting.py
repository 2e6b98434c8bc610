"""`archive.tools.report`: one file, whole or not at all, that names what is wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import DigestError, ExistsError, MissingError
from archive.report import reporting
from archive.tools import report
from tests import hostiletexts
from tests.report.samples import FAR, NAN, save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    save_run(folder)
    return folder


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def findings(page: Path) -> list[str]:
    return [text for run in data_of(page)["runs"] for _, _, text in run["findings"]]


def test_a_run(run: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = report(run, tmp_path / "run.html", progress=lambda done, total: steps.append((done, total)))
    assert (found.url, found.failures) == (str(tmp_path / "run.html"), ())
    assert found.file_bytes == (tmp_path / "run.html").stat().st_size < 200_000
    assert steps[-1] == (22, 22)
    told = findings(tmp_path / "run.html")
    assert f"Client {NAN} sent NaN or infinities in round 2: model/embed.weight" in told
    assert any(text.startswith(f"Client {FAR} is an outlier by size") for text in told)
    data = data_of(tmp_path / "run.html")
    assert [one["name"] for one in data["metrics"]] == ["loss", "accuracy", "examples"]
    assert [(one["first"], one["second"]) for one in data["differences"]] == [
        ("round 2", "round 3"), ("round 0", "round 3")
    ]  # fmt: skip
    values = {(row[0], row[2]): row[3] for row in data["runs"][0]["values"]["rows"]}
    assert values["configs", "strategy"] == "'FedAvg'"


def test_two_runs_and_an_archive_beside_a_run(run: Path, tmp_path: Path) -> None:
    save_run(tmp_path / "other", rounds=1, seed=2)
    report(archive.CheckpointStore(run), tmp_path / "two.html", compare=tmp_path / "other", title="T")
    data = data_of(tmp_path / "two.html")
    assert (data["title"], [one["name"] for one in data["runs"]]) == ("T", ["run", "other"])
    assert data["differences"][0]["first"] == "run, round 3"
    assert data["differences"][0]["second"] == "other, round 1"
    assert [line["run"] for line in data["metrics"][0]["lines"]] == [0, 1]
    with archive.open(run / "rounds/00000003.h5") as handle:
        report(run, tmp_path / "beside.html", compare=handle)
        assert handle["steps"].shape == (5,)
    assert data_of(tmp_path / "beside.html")["differences"][0]["changed"] == 0


def test_rounds_and_clients_are_sampled(run: Path, tmp_path: Path) -> None:
    report(run, tmp_path / "few.html", rounds=2, clients=3)
    found = data_of(tmp_path / "few.html")["runs"][0]
    assert (found["layers"]["rounds"], found["layers"]["total"]) == ([0, 3], 4)
    assert found["drift"]["clients"] == ["client-00", "client-02", "client-05"]
    assert found["drift"]["total"] == 6
    assert len(data_of(tmp_path / "few.html")["metrics"][0]["lines"][0]["clients"]) == 6


def damage(path: Path, key: str) -> None:
    with archive.open(path) as handle:
        offset = handle[key].payload.where[1]  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    store = save_run(tmp_path / "run")
    rounds = tmp_path / "run/rounds"
    damage(rounds / "00000003.h5", "embed.weight")
    (rounds / "00000001.h5").write_bytes((rounds / "00000001.h5").read_bytes()[:5000])
    damage(rounds / "00000002/client-04.h5", "layers.0.weight")
    (rounds / "00000003/client-00.h5").unlink()
    found = report(store, tmp_path / "run.html")
    kinds = {
        Path(path).relative_to(tmp_path / "run").as_posix(): type(error) for path, error in found.failures
    }
    assert kinds == {
        "rounds/00000001.h5": archive.errors.TruncatedError,
        "rounds/00000002/client-04.h5": DigestError,
        "rounds/00000003.h5": DigestError,
        "rounds/00000003/client-00.h5": MissingError,
    }
    told = "\n".join(findings(tmp_path / "run.html"))
    assert "rounds/00000003.h5, array model/embed.weight" in told
    shown = data_of(tmp_path / "run.html")["runs"][0]
    assert shown["layers"]["rounds"] == [0, 2, 3]
    assert shown["layers"]["norms"][0][2] is None
    assert shown["layers"]["norms"][1][2] is not None
    assert shown["arrays"]["problems"][0][0] == 0
    assert shown["drift"]["baseless"] == [2]


def test_whole_or_not_at_all(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises(ExistsError):
        report(run, page, overwrite=False)
    with pytest.raises(MissingError):
        report(tmp_path / "nowhere", page)
    with pytest.raises(ValueError, match="at least 1"):
        report(run, page, rounds=0)
    assert page.read_text() == "old"
    with pytest.raises(MissingError):
        report(run, tmp_path / "none/page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


class _Elements(HTMLParser):
    """What a browser makes of the page before a script runs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, set[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, _ in attributes:
            self.attributes.setdefault(tag, set()).add(name)


def test_the_policy_names_the_one_script_and_style(run: Path, tmp_path: Path) -> None:
    report(run, tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    for tag in ("script", "style"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
    ):
        assert forbidden not in script
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_names_and_values_of_strangers_are_text(tmp_path: Path) -> None:
    names = hostiletexts.STORABLE
    arrays = {name: np.arange(3.0) for name in names}
    configs = dict(zip(names, [*names[4:], *hostiletexts.LONG], strict=True))
    archive.save(arrays, tmp_path / "h.h5", metrics=dict.fromkeys(names, 1.0), configs=configs, durable=False)
    found = report(tmp_path / "h.h5", tmp_path / "h.html", title=names[0])
    assert found.file_bytes < 200_000
    page = _Elements((tmp_path / "h.html").read_text(encoding="utf-8"))
    assert set(page.tags) == {
        *(
            "html",
            "head",
            "meta",
            "title",
            "link",
            "style",
            "body",
            "noscript",
            "main",
            "h1",
            "p",
            "h2",
            "h3",
        ),
        *("table", "thead", "tr", "th", "tbody", "td", "script"),
    }
    assert page.tags.count("script") == 2
    assert page.attributes == {
        "html": {"lang"}, "meta": {"charset", "http-equiv", "content", "name"}, "link": {"rel", "href"},
        "script": {"type", "id"},
    }  # fmt: skip
    data = data_of(tmp_path / "h.html")
    assert all(key.isprintable() for key in data["runs"][0]["arrays"]["key"])
    assert all("".join(row).isprintable() for row in data["runs"][0]["values"]["rows"])


def test_a_page_that_would_be_too_long_has_less(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {f"layer.{place}" + "x" * 200: np.zeros(1) for place in range(300)}
    archive.save(arrays, tmp_path / "many.h5", durable=False)
    whole = report(tmp_path / "many.h5", tmp_path / "whole.html").file_bytes
    monkeypatch.setattr(reporting, "PAGE_BYTES", whole - 10_000)
    cut = report(tmp_path / "many.h5", tmp_path / "cut.html").file_bytes
    assert cut < whole - 10_000
    assert len(data_of(tmp_path / "cut.html")["runs"][0]["arrays"]["key"]) == 300
    monkeypatch.setattr(reporting, "PAGE_BYTES", 110_000)
    report(tmp_path / "many.h5", tmp_path / "least.html")
    arrays_shown = data_of(tmp_path / "least.html")["runs"][0]["arrays"]
    assert (len(arrays_shown["key"]), arrays_shown["left"][0]) == (200, 100)


def test_a_run_without_clients_or_metrics(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    store.save({"w": np.zeros(2)}, 5)
    report(store, tmp_path / "run.html")
    data = data_of(tmp_path / "run.html")
    assert (data["metrics"], data["differences"], data["runs"][0]["drift"]) == ([], [], None)
