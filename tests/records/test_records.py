"""The package's front: sorted names, and only floors below."""

import archive.records


def test_all_is_sorted_and_complete() -> None:
    names = archive.records.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(archive.records, name) for name in names)
