"""The hook of mkdocs.yml: pages of the site that do not stand in docs/, and links as the repository has them.

A link of a page is a path in the repository, so that it works in a checkout too. Where the site has the file,
the link leads there; where it has not (code, tests), the text stays and the link goes.
"""

from __future__ import annotations

import ast
import functools
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

MOVED = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE",
    "examples/flower/README.md": "examples/flower.md",
    "examples/flower": "examples/flower.md",
    "examples/fl4health/README.md": "examples/fl4health.md",
    "examples/fl4health": "examples/fl4health.md",
}
"""Files of the repository, and folders that a page shows, with their place in the site."""
KEPT = (
    *("spec/*.md", "spec/v1/*.md", "benchmarks/results/*", "tests/RESULTS.md"),
    *("examples/*.py", "examples/*.ipynb"),
)
"""Files that have the same place in the site as in the repository."""
MODULES = (
    *("archive", "archive.errors", "archive.tools", "archive.types", "archive.packers"),
    *(f"archive.interop.{name}" for name in ("flower", "fl4health", "torch", "dask", "plots")),
    *("archive.testing.strategies", "archive.testing.vectors"),
)
"""Modules whose ``__all__`` is public (docs/policy.md). A name of several is described in the first."""
DATA_BOOST = 0.1
"""Weight in the search of pages of measurements: their long tables hold every word, and would come first."""
_LINK = re.compile(r"(?P<text>\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<path>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")
_COMMENT = re.compile(r"\s?<!--.*?-->", re.DOTALL)


@functools.cache
def outside() -> dict[str, str]:
    """Return the files of the site that stand outside docs/: path in the repository, and in the site."""
    kept = {path.relative_to(ROOT).as_posix() for pattern in KEPT for path in ROOT.glob(pattern)}
    moved = {path: place for path, place in MOVED.items() if (ROOT / path).is_file()}
    return moved | {path: path for path in sorted(kept)}


def public_names(module: str) -> list[str]:
    """Return ``__all__`` of a module, without importing it: interop modules need their libraries."""
    for node in _parsed(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return sorted(names)
    raise ValueError(f"{module} has no __all__")


def introduction(module: str) -> str:
    """Return what a module says of itself, as Markdown: without tables of reStructuredText."""
    text = ast.get_docstring(_parsed(module)) or ""
    text = re.sub(r"^====.*^====[= ]*$\n?", "", text, flags=re.MULTILINE | re.DOTALL)
    text, _, example = re.sub(r"^::$", "", text, flags=re.MULTILINE).partition("\nExamples\n--------\n")
    return f"{text}\n```python\n{example}\n```\n" if example else f"{text}\n"


def _parsed(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(source.read_text(encoding="utf-8"))


def api_pages() -> dict[str, str]:
    """Return the pages of the reference by their path: each public name once, where it is met first."""
    pages, homes = {}, {}
    for module in MODULES:
        lines = [f"# {module}\n", introduction(module)]
        for name in public_names(module):
            home = homes.setdefault(name, module)
            if home == module:
                lines.append(f"::: {module}.{name}\n")
            else:
                lines.append(f"## {name} {{ #{module}.{name} }}\n\nIs [`{home}.{name}`][{home}.{name}].\n")
        pages[f"api/{module}.md"] = "\n".join(lines)
    return pages


def site_place(path: str) -> str | None:
    """Return where the site has a file of the repository, None where it has not."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return MOVED.get(path) or outside().get(path)


def rewrite_links(markdown: str, source: str, place: str) -> str:
    """Return a page of the repository with its links as the site has them.

    Parameters
    ----------
    markdown : str
    source : str
        Path of the page in the repository.
    place : str
        Path of the page in the site.
    """

    def rewritten(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        if not path or ":" in path:
            return match[0]
        target = site_place(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
        if target is None:
            return match["text"][1:-1]
        return f"{match['text']}({posixpath.relpath(target, posixpath.dirname(place) or '.')}{anchor})"

    parts, at = [], 0
    for fence in re.finditer(r"^```.*?^```$", markdown, re.MULTILINE | re.DOTALL):
        parts += [_LINK.sub(rewritten, _COMMENT.sub("", markdown[at : fence.start()])), fence[0]]
        at = fence.end()
    return "".join([*parts, _LINK.sub(rewritten, _COMMENT.sub("", markdown[at:]))])


def on_config(config: Any) -> Any:
    """Add to the navigation all results."""
    results = [path for path in outside() if path.startswith("benchmarks/") and path.endswith(".md")]
    comparison = next(section["Comparison"] for section in config["nav"] if "Comparison" in section)
    comparison += results
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand elsewhere, and those of the reference."""
    from mkdocs.structure.files import File  # noqa: PLC0415 the tests read this module without mkdocs

    for path, place in outside().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for place, text in api_pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Give a page the links of the site, and no comments."""
    place = page.file.src_uri
    if place.startswith("api/"):
        return markdown
    source = {site: path for path, site in outside().items()}.get(place, f"docs/{place}")
    if source.startswith(("benchmarks/", "tests/")):
        page.meta["search"] = {"boost": DATA_BOOST}
    return rewrite_links(markdown, source, place)
