"""What is shown of many."""

from __future__ import annotations

from archive.report.excerpts import group_names, range_text, shown_name, spread
from tests import hostiletexts


def test_ends_are_among_those_that_are_spread() -> None:
    for count in (2, 3, 50, 51, 1000):
        for most in (2, 7, 50):
            found = spread(range(count), most)
            assert found[0] == 0
            assert found[-1] == count - 1
            assert len(set(found)) == len(found) == min(count, most)


def test_groups_are_never_more_than_fit() -> None:
    deep = [("m", f"layer.{place // 10}.{place % 10}.weight") for place in range(1000)]
    flat = [("m", f"param{place}") for place in range(1000)]
    records = [(f"record{place % 3}", f"w{place}") for place in range(1000)]
    for names in (deep, flat, records):
        for most in (1000, 150, 10, 2):
            labels, places = group_names(names, most)
            assert len(labels) <= most
            assert len(places) == len(names)
            assert set(places) == set(range(len(labels)))


def test_names_of_strangers_are_printable_and_short() -> None:
    labels, _ = group_names([("m", text) for text in hostiletexts.ALL], 100)
    assert all(label.isprintable() and len(label) <= 160 for label in labels)
    assert all(shown_name(text).isprintable() for text in hostiletexts.ALL)


def test_ranges() -> None:
    assert range_text([]) == ""
    assert range_text([3, 1, 2, 2]) == "1-3"
