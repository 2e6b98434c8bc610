"""Which archives a folder stands for."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from archive.engine.write.create import ArchiveWriter
from archive.errors import MissingError, StorageError, UnsupportedURLError
from archive.storage.url import parse_url
from archive.tools.many import find_inputs, read_each
from archive.tools.patterns import match_urls


def test_a_folder_stands_for_the_archives_below_it(tmp_path: Path) -> None:
    for name in (
        "run[1]/b.h5",
        "run[1]/x/y/a.h5",
        "run[1]/.hidden/c.h5",
        "run[1]/notes.txt",
        "run[1]/x/a.h5.partial",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path / "run[1]"
    assert match_urls(folder, None, folders=True) == [f"{folder}/b.h5", f"{folder}/x/y/a.h5"]
    assert match_urls(folder / "b.h5", None, folders=True) == [f"{folder}/b.h5"]
    with pytest.raises(StorageError, match="is a folder"):
        match_urls(folder, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="the folder has no archive"):
        match_urls(tmp_path / "empty", None, folders=True)


def test_a_link_that_leads_nowhere_hides_no_archive(tmp_path: Path) -> None:
    archives = [f"{tmp_path}/a.h5", f"{tmp_path}/x/b.h5"]
    for path in archives:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "x" / "long").symlink_to("n" * 300)
    assert match_urls(tmp_path, None, folders=True) == archives
    assert match_urls(f"{tmp_path}/**/*.h5", None) == archives
    found = match_urls(f"{tmp_path}/**", None)
    assert set(found) == {*archives, f"{tmp_path}/loop", f"{tmp_path}/x/long"}


def test_errors_end_the_call_or_are_outcomes() -> None:
    def read(place: object) -> int:
        raise MissingError("gone", path=str(place))

    inputs = find_inputs(["a.h5", "b.h5"])
    seen: list[tuple[int, int]] = []
    outcomes = list(
        read_each(read, inputs, errors="skip", progress=lambda done, total: seen.append((done, total)))
    )
    assert [(one.input.path, one.result, type(one.error)) for one in outcomes] == [
        ("a.h5", None, MissingError), ("b.h5", None, MissingError)
    ]  # fmt: skip
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(MissingError, match="gone"):
        list(read_each(read, inputs))


@pytest.mark.parametrize(
    "url",
    [
        "https://host/m.h5?sig=a*b",
        "https://host/model?sig=5",
        "http://[::1]:8000/run[1]/m.h5",
        "s3://bucket/m.h5?versionId=3",
    ],
)
def test_a_query_is_no_pattern(url: str) -> None:
    assert match_urls(url, None) == [url]
    assert match_urls(url, None, folders=True) == [url]


def test_a_web_server_lists_nothing() -> None:
    with pytest.raises(UnsupportedURLError, match="does not list; name the archive itself"):
        match_urls("http://127.0.0.1:9/*.h5?sig=5", None)


def test_an_archive_that_has_the_name_of_a_catalogue_is_one(tmp_path: Path) -> None:
    """Beside a run too: only what says that it is a catalogue is left out."""
    (tmp_path / "rounds").mkdir()
    url, remote = str(tmp_path / "catalogue.h5"), f"memory://{tmp_path}"
    for made, record in ((True, "mine"), (False, "fedarchive.catalogue")):
        for place in (url, f"{remote}/catalogue.h5", f"{remote}/rounds/00000001.h5"):
            with ArchiveWriter(parse_url(place), overwrite=True, durable=False, created=None) as writer:
                writer.configs[record] = {"version": 1}
        assert match_urls_or_none(f"{tmp_path}/*.h5") == ([url] if made else [])
        assert match_urls_or_none(f"{remote}/*.h5") == ([f"{remote}/catalogue.h5"] if made else [])


def match_urls_or_none(pattern: str) -> list[str]:
    try:
        return match_urls(pattern, None)
    except MissingError:
        return []


def test_the_catalogue_of_a_run_is_no_archive_of_a_pattern(tmp_path: Path) -> None:
    """Beside rounds or contexts; an archive of that name elsewhere is one."""
    rounds, contexts = f"{tmp_path}/a/rounds/00000001.h5", f"{tmp_path}/b/contexts/n.h5"
    for name in (rounds, contexts, "a/catalogue.h5", "b/catalogue.h5", "c/catalogue.h5", "catalogue.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    plain = [f"{tmp_path}/c/catalogue.h5", f"{tmp_path}/catalogue.h5"]
    for path in tmp_path.glob("**/*.h5"):
        fsspec.filesystem("memory").pipe_file(str(path), b"x")
    for place in (str(tmp_path), f"memory://{tmp_path}"):
        expected = [path.replace(str(tmp_path), place) for path in sorted([rounds, contexts, *plain])]
        assert match_urls(place, None, folders=True) == expected
        assert match_urls(f"{place}/**/*.h5", None) == expected
        assert match_urls(f"{place}/*/cat*.h5", None) == [f"{place}/c/catalogue.h5"]
        with pytest.raises(MissingError):
            match_urls(f"{place}/a/*.h5", None)
