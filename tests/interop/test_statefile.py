from __future__ import annotations

from archive.interop.statefile import places_in


def test_places_are_those_of_values_with_one_array_and_with_several() -> None:
    tree = {"items": [["a", {"$": "ndarray", "at": "a/0"}], ["b", {"$": "Parameters", "at": ["b/0", "b/1"]}]]}
    assert sorted(places_in(tree)) == ["a/0", "b/0", "b/1"]


def test_what_is_no_place_is_no_place() -> None:
    assert list(places_in({"$": "Parameters", "at": [None, {"at": "x"}, 3]})) == []
