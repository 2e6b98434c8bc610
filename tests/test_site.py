"""The site: every public name and error has its place, nothing warns, and nothing asks another host."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archive import errors
from tests.children import child_environment
from tests.pages import ROOT, read_page
from tests.report.chromium import PROGRAM

pytestmark = pytest.mark.skipif(
    not (ROOT / "archive").exists(),
    reason="the site is built of a checkout: it reads the sources of the package",
)
HOSTS = re.compile(
    r"""(?:<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=|url\()["']?(?:https?:)?//[^"'\s>)]+"""
)
"""What a browser fetches of another host by itself; a link that a reader may follow is none."""


def hook() -> Any:
    """Return the hook of mkdocs.yml."""
    spec = importlib.util.spec_from_file_location("sitepages", ROOT / ".ci/sitepages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("module", hook().MODULES)
def test_every_public_name_has_its_place(module: str) -> None:
    site = hook()
    page = site.api_pages()[f"api/{module}.md"]
    try:
        names = sorted(importlib.import_module(module).__all__)
    except ImportError as error:
        pytest.skip(f"{module} needs {error.name}")
    assert site.public_names(module) == names
    for name in names:
        assert (
            f"\n::: {module}.{name}\n" in page or f"[`{name}`]" in page or f"{{ #{module}.{name} }}" in page
        )


def test_public_modules_are_those_of_the_policy() -> None:
    public = re.search(r"its modules (.*?);", read_page("docs/policy.md").replace("\n", " "))
    assert public
    named = [name.replace(".*", "") for name in re.findall(r"`([\w.*]+)`", public[1])]
    for name in named:
        assert any(module.startswith(f"archive.{name}") for module in hook().MODULES), name


def test_every_error_is_on_its_page_with_the_builtin_that_it_is() -> None:
    text = read_page("docs/errors.md")
    named = dict(re.findall(r"^\| `(\w+(?:Error|Warning))` \| `([\w.]+)` \|", text, re.MULTILINE))
    assert set(errors.__all__) <= set(named)
    for name in errors.__all__:
        kind = getattr(errors, name)
        base = named[name]
        assert base in {one.__name__ for one in kind.__mro__[1:]}, name
    for name in set(named) - set(errors.__all__):
        assert named[name].startswith("archive.interop."), name


@pytest.mark.parametrize(
    ("link", "source", "rewritten"),
    [
        ("[a](docs/errors.md#x)", "README.md", "[a](errors.md#x)"),
        ("[`b`](../spec/v1/format.md)", "docs/limits.md", "[`b`](spec/v1/format.md)"),
        ("[c](../examples/flower)", "docs/flower.md", "[c](examples/flower.md)"),
        ("[`d`](../archive/errors.py)", "docs/flower.md", "`d`"),
        ("[e](https://example.org)", "docs/flower.md", "[e](https://example.org)"),
        ("[f](../../README.md)", "spec/v1/format.md", "[f](../../index.md)"),
        ("a <!-- tests/x.py --> b\n- c <!-- d -->\n- e", "README.md", "a b\n- c\n- e"),
        ("```\n[g](docs/x.md)\n```", "README.md", "```\n[g](docs/x.md)\n```"),
    ],
)
def test_links_become_those_of_the_site(link: str, source: str, rewritten: str) -> None:
    site = hook()
    place = site.MOVED.get(source) or source.removeprefix("docs/")
    assert site.rewrite_links(link, source, place) == rewritten


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site and return its folder."""
    for library in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(library, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=child_environment(NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(built: Path) -> None:
    pages = sorted(built.rglob("*.html"))
    assert len(pages) > 50
    files = [*pages, *built.rglob("*.css")]
    found = {path.name: HOSTS.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {name: hosts for name, hosts in found.items() if hosts} == {}
    index = json.loads((built / "search/search_index.json").read_text(encoding="utf-8"))
    titles = {entry["location"]: entry["title"] for entry in index["docs"]}
    assert titles["errors.html"] == "Errors and remedies"
    weights = {entry["location"]: entry.get("boost", 1) for entry in index["docs"]}
    assert weights["errors.html"] == 1
    assert {weight for place, weight in weights.items() if place.startswith("benchmarks/")} == {0.1}
    for module in hook().MODULES:
        text = (built / f"api/{module}.html").read_text(encoding="utf-8")
        missing = [name for name in hook().public_names(module) if f'id="{module}.{name}"' not in text]
        assert missing == []


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="needs Chromium: apt install chromium")
def test_the_site_is_searched_from_the_disk(built: Path, tmp_path: Path) -> None:
    page = (built / "api/archive.html").as_uri() + "?q=ReplacedError"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(
        [PROGRAM, *options, "--virtual-time-budget=20000", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert re.search(r'md-search-result__meta">\d+ matching documents<', done.stdout)
    assert "<h1>Errors and remedies</h1>" in re.sub(r"</?mark[^>]*>", "", done.stdout)


@pytest.mark.slow
def test_no_word_is_misspelt() -> None:
    pytest.importorskip("codespell_lib", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "codespell_lib"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
