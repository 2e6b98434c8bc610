"""Makes every vector of this folder: ``python -m spec.v1.vectors.generate [FOLDER]``.

Valid archives are what the library's writer makes of fixed input, a few of them taken apart and put
together in another legal way; invalid ones are one archive with one rule broken. Nothing is drawn by
chance and no clock is read, so the same bytes come out each time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import archive
from spec.v1.vectors.accepted import VALID, Change
from spec.v1.vectors.changing import base
from spec.v1.vectors.damaged import RAWS
from spec.v1.vectors.inputs import NOT_FOR_WRITERS, input_of
from spec.v1.vectors.library import LibraryReader
from spec.v1.vectors.refused import CRAFTED
from spec.v1.vectors.trees import TREES
from tests.crafting import Crafted
from tests.trees import Tree, with_tree_of_index

CREATED = "2026-01-01T00:00:00Z"


def save(records: Any, path: Path, *, stored_above: int = 60000) -> None:
    """Save with nothing of this release in the bytes; values above so many bytes become datasets."""
    with (
        mock.patch("archive.engine.write.plan.__version__", "vectors"),
        mock.patch("archive.engine.attributes.MAX_ATTRIBUTE_BYTES", stored_above),
    ):
        if not isinstance(records, list):
            archive.save(records, path, created=CREATED, durable=False)
            return
        with archive.create(path, created=CREATED, durable=False) as writer:
            for record, key, array in records:
                writer.add(record, key, array)
            writer.metrics["m"] = {"loss": 0.5}


def write_crafted(source: Path, change: Change, path: Path) -> None:
    """Put an archive together again, its document as writers spell it."""
    crafted = Crafted(source)
    change(crafted)
    if crafted.json is None:
        crafted.json = json.dumps(crafted.document, ensure_ascii=False, separators=(",", ":")).encode()
    path.write_bytes(crafted.assemble())


def write_json(path: Path, said: dict[str, Any]) -> None:
    """Write the document of a vector beside it."""
    text = json.dumps(said, ensure_ascii=False, allow_nan=False, indent=1)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def generate(folder: Path) -> None:
    """Write all vectors below a folder."""
    valid, invalid = folder / "valid", folder / "invalid"
    for made in (valid, invalid, folder / "writer"):
        made.mkdir(parents=True, exist_ok=True)
    source = folder / "source.h5"
    for name, title, proves, records, change, notes in VALID:
        path = valid / f"{name}.h5"
        save(records(), source, stored_above=100 if name in ("stored-values", "white-space") else 60000)
        if change is None:
            source.replace(path)
        else:
            write_crafted(source, change, path)
            path.write_bytes(with_tree_of_index(path.read_bytes(), source))
        said = {"title": title, "proves": proves.split(), "outcome": "valid"}
        write_json(path, {**said, **LibraryReader().open(path).describe(), "notes": notes})
        if change is None and name not in NOT_FOR_WRITERS:
            write_json(folder / "writer" / path.name, input_of(path, title))
    save(base(), source, stored_above=100)
    for name, _, _, change, *_ in CRAFTED:
        write_crafted(source, change, invalid / f"{name}.h5")
    for name, _, _, flip, *_ in RAWS:
        (invalid / f"{name}.h5").write_bytes(flip(bytearray(source.read_bytes())))
    tree = Tree(source.read_bytes())
    for name, _, _, alter, *_ in TREES:
        (invalid / f"{name}.h5").write_bytes(alter(tree))
    for name, title, proves, _, error, when, place in (*CRAFTED, *RAWS, *TREES):
        path = invalid / f"{name}.h5"
        said = {"title": title, "proves": proves.split(), "outcome": "invalid", "error": error}
        write_json(path, {**said, "when": when, "place": place})
    source.unlink()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
