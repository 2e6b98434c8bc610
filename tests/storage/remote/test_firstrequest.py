"""How much the request that opens an object asks for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from archive import tuning
from archive.storage.remote import firstrequest
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


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager")
def test_threads_that_open_many_folders() -> None:
    errors: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for number in range(8000):
                note_needed(f"s3://bucket/{thread}-{number}/a.h5", "open", number)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(firstrequest._needed) < tuning.TAIL_FOLDERS + len(threads)
    note_needed("s3://bucket/last/a.h5", "open", 1 << 20)
    assert first_bytes("s3://bucket/last/b.h5", "open") == (1 << 20) + (1 << 17)
