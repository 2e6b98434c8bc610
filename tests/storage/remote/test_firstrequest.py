"""How much the request that opens an object asks for."""

from __future__ import annotations

from archive import tuning
from archive.storage.remote.firstrequest import first_bytes, note_needed


def test_what_the_object_before_of_its_folder_needed_and_an_eighth_more() -> None:
    note_needed("s3://b/eighth/1.h5", "open", 800_000)
    assert first_bytes("s3://b/eighth/2.h5", "open") == 900_000
    assert first_bytes("s3://b/eighth/2.h5", "values") == tuning.VALUES_TAIL_BYTES
    assert first_bytes("s3://b/another/2.h5", "open") == tuning.TAIL_BYTES
    note_needed("s3://b/eighth/1.h5", "open", 1 << 40)
    assert first_bytes("s3://b/eighth/2.h5", "open") == tuning.MOST_TAIL_BYTES


def test_a_folder_that_is_known_pushes_no_other_out() -> None:
    urls = [f"s3://b/known{number}/1.h5" for number in range(tuning.TAIL_FOLDERS)]
    for url in [*urls, urls[-1]]:
        note_needed(url, "open", 800_000)
    assert [first_bytes(url, "open") for url in urls] == [900_000] * len(urls)
    note_needed("s3://b/known/1.h5", "open", 800_000)
    assert [first_bytes(url, "open") == 900_000 for url in urls] == [False, *[True] * (len(urls) - 1)]
