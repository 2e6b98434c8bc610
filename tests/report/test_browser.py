"""The page in headless Chromium: fast, silent, inert, and reached by keyboard alone."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.tools import report
from tests import hostiletexts
from tests.report.chromium import PROGRAM, Browser, Tab
from tests.report.samples import save_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tools,
    pytest.mark.skipif(not PROGRAM, reason="needs Chromium: apt install chromium"),
]
SHOTS = os.environ.get("FEDARCHIVE_SHOTS", "")
"""Folder for pictures that somebody wants to look at."""
LOOKS = [(dark, width) for dark in (False, True) for width in (1280, 480)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of 20 clients and 20 rounds; an archive of 20,000 arrays; hostile names and values."""
    folder = tmp_path_factory.mktemp("pages")
    for place, name in enumerate(("one", "two")):
        save_run(folder / name, rounds=20, clients=20, seed=place)
    report(folder / "one", folder / "runs.html", compare=folder / "two")
    rng = np.random.default_rng(2)
    arrays = {
        f"decoder.layers.{place // 16}.{place % 16}.weight": rng.normal(size=8) for place in range(20_000)
    }
    archive.save(arrays, folder / "many.h5", durable=False)
    report(folder / "many.h5", folder / "many.html")
    save_hostile(folder / "hostile")
    report(folder / "hostile", folder / "hostile.html", title=hostiletexts.MARKUP[1])
    return {path.stem: path for path in folder.glob("*.html")}


def save_hostile(folder: Path) -> None:
    names = hostiletexts.STORABLE
    store = archive.CheckpointStore(folder)
    for number in (1, 2):
        arrays = {name: np.full(3, number + place) for place, name in enumerate(names)}
        for name in names[:20]:
            store.save(arrays, number, client=name[:60], metrics={name: float(number)})
        texts = dict(zip(names, [*names[4:], *hostiletexts.LONG], strict=True))
        store.save(arrays, number, metrics=dict.fromkeys(names, number / 2), configs=texts)


def require_quiet(tab: Tab) -> None:
    assert tab.complaints() == []
    assert tab.requests() == []


@pytest.mark.parametrize("name", ["runs", "many", "hostile"])
@pytest.mark.parametrize(("dark", "width"), LOOKS)
def test_drawn_within_a_second(
    browser: Browser, pages: dict[str, Path], name: str, dark: bool, width: int
) -> None:
    assert pages[name].stat().st_size < 5_000_000
    tab = browser.open(pages[name], dark=dark, width=width)
    assert tab.seconds() < 1
    assert tab.run("document.querySelectorAll('main section').length") >= 2
    assert tab.run("document.documentElement.scrollWidth") <= width
    require_quiet(tab)
    if SHOTS:
        height = tab.run("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12_000), "scale": 1}
        shot = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path = Path(SHOTS) / f"{name}-{'dark' if dark else 'light'}-{width}.png"
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.mark.parametrize("name", ["runs", "many", "hostile"])
@pytest.mark.parametrize(("dark", "width"), LOOKS)
def test_axe_finds_nothing(
    browser: Browser, pages: dict[str, Path], name: str, dark: bool, width: int
) -> None:
    axe = Path(os.environ.get("FEDARCHIVE_AXE", ""))
    if not axe.is_file():
        pytest.skip("needs axe-core: npm install axe-core, and FEDARCHIVE_AXE=.../axe-core/axe.min.js")
    tab = browser.open(pages[name], dark=dark, width=width)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.settle()
    assert tab.violations(axe) == []
    require_quiet(tab)


def test_hostile_texts_are_shown_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["hostile"])
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.settle()
    made = tab.run("[...new Set([...document.querySelectorAll('*')].map((one) => one.localName))].join(' ')")
    known = (
        "html head meta title link style body noscript script a header div h1 h2 h3 p button nav main section"
    )
    known += (
        " bdi dl dt dd ul li span label select option input figure svg line text path polygon circle rect"
    )
    known += " details summary table thead tbody tr th td canvas aside footer b"
    assert set(made.split()) <= set(known.split())
    assert tab.run("document.querySelectorAll('script').length") == 2
    marks = "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
    assert not [mark for mark in tab.run(marks) if mark.startswith("on") or mark in ("src", "srcdoc")]
    assert set(tab.run("[...document.links].map((one) => one.getAttribute('href')[0])")) == {"#"}
    shown = tab.run("document.body.innerText")
    for text in hostiletexts.MARKUP[:20]:
        assert text in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", shown)
    assert tab.run("document.title") == hostiletexts.MARKUP[1]
    require_quiet(tab)


def test_the_policy_forbids_all_else(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["runs"])
    tried = {
        "document.body.innerHTML = '<b>x</b>'": "TrustedHTML",
        "fetch('data:,x').catch((error) => { throw error; })": "fetch",
        "setTimeout('1')": "TrustedScript",
    }
    for expression in tried:
        found = tab.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        assert "exceptionDetails" in found, expression
    made = "const made = document.createElement('script'); made.textContent = 'window.ran = 1'"
    tab.call("Runtime.evaluate", expression=f"{made}; document.body.append(made)")
    assert tab.run("window.ran === undefined")


def describe(tab: Tab) -> str:
    path = """(() => {
        const all = [...document.querySelectorAll('*')];
        return document.activeElement === document.body ? '' : String(all.indexOf(document.activeElement));
    })()"""
    return str(tab.run(path))


def test_the_keyboard_alone_reaches_all(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["runs"])
    wanted = """(() => {
        const all = [...document.querySelectorAll('*')];
        const controls = 'a[href], button, select, input, summary, [tabindex="0"]';
        const seen = all.filter((one) => one.matches(controls));
        return seen.filter((one) => one.checkVisibility()).map((one) => String(all.indexOf(one)));
    })()"""
    controls = set(tab.run(wanted))
    assert len(controls) > 40
    reached = set()
    for _ in range(len(controls) + 20):
        tab.press("Tab")
        reached.add(describe(tab))
        # every stop is seen: it has an outline
        if describe(tab):
            assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert controls <= reached


def test_keys_read_charts_and_work_the_tree(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["runs"])

    def focus(selector: str) -> None:
        tab.run(f"document.querySelector({selector!r}).focus()")

    def text(selector: str) -> Any:
        return tab.run(f"document.querySelector({selector!r}).innerText")

    focus("#curves .plot")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert "Round 1" in text("#curves .readout")
    focus("#clients .heat")
    tab.press("ArrowRight")
    tab.press("ArrowDown")
    tab.press("ArrowDown")
    tab.press("ArrowRight")
    assert "client-02, round 2" in text("#clients .readout")
    assert "outlier" in text("#clients .readout")
    focus("#drift .heat")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert "embed.weight, client-02: " in text("#drift .readout")
    tab.run(
        """(() => { const box = document.querySelector('#drift select'); box.value = '1';
        box.dispatchEvent(new Event('change')); })()"""
    )
    assert "in round 1" in tab.run("document.querySelector('#drift canvas[role=img]').ariaLabel")
    rows = "document.querySelectorAll('#arrays .item').length"
    before = tab.run(rows)
    focus("#arrays .window")
    tab.press("ArrowDown")
    assert text("#arrays .item[aria-selected=true]").startswith("▾")
    tab.press("ArrowLeft")
    assert tab.run(rows) < before
    tab.press("ArrowRight")
    assert tab.run(rows) == before
    tab.press("End")
    assert "steps" in text("#arrays .detail")
    focus("header button")
    tab.press("Enter")
    assert tab.run("document.documentElement.dataset.theme") == "light"
    require_quiet(tab)


def test_filter_and_sort(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["many"])
    tab.run(
        """(() => { const box = document.querySelector('#arrays input[type=search]');
        box.value = '124 .7.'; box.dispatchEvent(new Event('input')); })()"""
    )
    tab.settle()
    assert "of 20,000 arrays" in tab.run("document.querySelector('#arrays .count').innerText")
    names = tab.run("[...document.querySelectorAll('#arrays .item:not(.group)')].map((one) => one.innerText)")
    assert len(names) > 0
    tab.run("document.querySelectorAll('#arrays .heading button')[3].click()")
    assert tab.run("document.querySelector('#arrays [aria-sort]').getAttribute('aria-sort')") == "descending"
    require_quiet(tab)


def test_on_paper_all_is_open(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["runs"], dark=True)
    closed = "document.querySelectorAll('details:not([open])').length"
    tab.run(f"addEventListener('beforeprint', () => {{ window.closed_ = {closed}; }})")
    paper = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert paper.startswith(b"%PDF")
    assert tab.run("window.closed_") == 0
    assert tab.run("document.querySelectorAll('details[open]').length") == 1
    assert tab.run("document.querySelectorAll('.printed tr').length") == 6
    if SHOTS:
        (Path(SHOTS) / "runs.pdf").write_bytes(paper)


def test_without_a_script_there_is_a_summary(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["runs"])
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.call("Page.reload")
    for _ in range(20):
        tab.call("Page.getFrameTree")
    tree = str(tab.call("DOM.getDocument", depth=-1, pierce=True))
    for shown in ("this is a summary", "embed.weight", "Client client-01 sent NaN"):
        assert shown in tree
