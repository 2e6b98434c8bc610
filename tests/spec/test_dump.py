"""``spec/v1/dump.md`` is what ``spec/v1/dump.py`` prints of the smallest archive."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from archive.format.footer import parse_footer
from spec.v1.dump import annotate
from tests.spec.documents import FOLDER

EMPTY = FOLDER / "vectors/valid/empty.h5"


def test_the_page_is_what_is_printed() -> None:
    page = (FOLDER / "dump.md").read_text(encoding="utf-8")
    printed = subprocess.run(
        [sys.executable, "-m", "spec.v1.dump", str(EMPTY)], capture_output=True, text=True, check=True
    ).stdout
    assert page.split("```\n")[1] == printed


def test_the_values_section_is_the_one_that_the_page_shows() -> None:
    whole = EMPTY.read_bytes()
    footer = parse_footer(whole[-256:], len(whole))
    section = whole[footer.values_at : footer.values_at + footer.values_bytes].decode().rstrip()
    assert f"`{section}`" in (FOLDER / "dump.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["empty", "ties", "context"])
def test_every_byte_of_the_regions_is_printed_once(name: str) -> None:
    whole = (FOLDER / f"vectors/valid/{name}.h5").read_bytes()
    index_at = parse_footer(whole[-256:], len(whole)).index_at
    places = {
        "superblock": slice(0, 48),
        "index": slice(index_at, index_at + 96),
        "footer": slice(-256, None),
    }
    shown = dict.fromkeys(places, b"")
    lines = re.findall(r"^(\w+) +(\d+)  ((?:[0-9a-f]{2} ?)+)", annotate(whole), re.MULTILINE)
    for region, at, spelled in lines:
        assert int(at) == range(len(whole))[places[region]][len(shown[region])]
        shown[region] += bytes.fromhex(spelled)
    assert shown == {region: whole[place] for region, place in places.items()}
