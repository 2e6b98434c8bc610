"""Names as link names: one to one, and never one that HDF5 reads in its own way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import ValueRangeError
from archive.format.constants import MAX_LINK_NAME_BYTES
from archive.format.names import escape_name, escape_names, link_name, unescape_name

CODES = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
NASTY = CODES | st.text(alphabet="%/.\0 25F0\u00e9")


@pytest.mark.must("NAME-5")
@given(NASTY)
def test_there_and_back(name: str) -> None:
    link = escape_name(name)
    assert unescape_name(link.decode()) == name
    assert b"/" not in link
    assert b"\0" not in link
    assert link not in (b"", b".")


@given(st.lists(NASTY, max_size=6, unique=True))
def test_many_at_once_are_one_by_one_and_apart(names: list[str]) -> None:
    links = escape_names(names)
    assert links == [escape_name(name) for name in names]
    assert len(set(links)) == len(names)


@given(NASTY)
def test_a_link_name_is_ours_or_refused(link: str) -> None:
    try:
        name = unescape_name(link)
    except ValueError:
        return
    assert escape_name(name) == link.encode()


@pytest.mark.must("NAME-4")
@given(st.text(alphabet="a\ud800\udfff", min_size=1).filter(lambda text: set(text) != {"a"}))
def test_lone_surrogates_are_a_typed_error(name: str) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        escape_name(name)
    with pytest.raises(ValueError, match="surrogate"):
        escape_names(["fine", name])


@pytest.mark.must("NAME-1", "NAME-2", "NAME-3")
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("dense/kernel:0", b"dense%2Fkernel:0"),
        ("", b"%"),
        (".", b"%2E"),
        ("..", b".."),
        ("%", b"%25"),
        ("%2E", b"%252E"),
        ("a\0", b"a%00"),
        ("\u00e9", "\u00e9".encode()),
    ],
)
def test_spelled_as_the_specification_says(name: str, link: bytes) -> None:
    assert escape_name(name) == link


def test_composed_and_decomposed_names_stay_two() -> None:
    assert len(set(escape_names(["\u00e9", "e\u0301"]))) == 2


@pytest.mark.must("NAME-4")
@pytest.mark.parametrize("letter", ["x", "\u4e2d", "/"])
def test_the_limit_counts_escaped_bytes(letter: str) -> None:
    width = len(escape_name(letter))
    longest = MAX_LINK_NAME_BYTES // width
    assert len(escape_name(letter * longest)) == longest * width
    for escape in (escape_name, lambda name: escape_names([name])):
        with pytest.raises(ValueError, match="32768"):
            escape(letter * (longest + 1))


@pytest.mark.parametrize("link", ["a/b", "a\0", "%2", "%zz", "%41", ".", "", "%2e", "a%"])
def test_link_names_that_no_archive_writes(link: str) -> None:
    with pytest.raises(ValueError, match="no archive writes the link name"):
        unescape_name(link)


def test_an_error_names_record_and_key() -> None:
    assert link_name("model", "a/b") == b"a%2Fb"
    with pytest.raises(ValueRangeError, match=r"'model/a\?': the name holds a lone surrogate.*; rename it"):
        link_name("model", "a\ud800")
    with pytest.raises(ValueRangeError, match=r"'x{80}': the name takes 40000 bytes"):
        link_name("x" * 40_000)
