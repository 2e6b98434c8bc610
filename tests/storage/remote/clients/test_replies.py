"""What a reply must say before its bytes are believed."""

from __future__ import annotations

import pytest

from archive.storage.remote.clients import replies
from archive.storage.remote.clients.replies import Reply, expect_range, expect_suffix
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import ObjectVersion

VERSION = ObjectVersion(1000, '"a"')


def reply(
    status: int = 206,
    content_range: str = "bytes 10-19/1000",
    nbytes: int | None = 10,
    tag: str = '"a"',
    modified: str = "",
) -> Reply:
    return Reply(status, content_range, nbytes, tag, modified)


@pytest.mark.parametrize(
    "answer", [reply(), reply(nbytes=None), reply(tag=""), reply(content_range="bytes 10-19/*")]
)
def test_the_range_that_was_asked_for(answer: Reply) -> None:
    body = expect_range(answer, 10, 20, VERSION)
    assert (body.nbytes, body.skip, body.keep, body.version) == (10, 0, 10, VERSION)


@pytest.mark.must("REMOTE-2")
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(content_range="bytes 26-35/1000"), Kind.TRANSIENT),
        (reply(content_range="bytes 10-18/1000", nbytes=9), Kind.TRANSIENT),
        (reply(content_range=""), Kind.TRANSIENT),
        (reply(content_range="bytes 10-19"), Kind.TRANSIENT),
        (reply(nbytes=9), Kind.TRANSIENT),
        (reply(content_range="bytes 10-19/999"), Kind.CONFLICT),
        (reply(tag='"b"'), Kind.CONFLICT),
        (reply(200, "", 999), Kind.CONFLICT),
        (reply(200, "", replies.WHOLE_BYTES + 1), Kind.UNSUPPORTED),
    ],
)
def test_another_range_or_version(answer: Reply, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        expect_range(answer, 10, 20, VERSION)
    assert caught.value.kind is kind


def test_a_time_pins_what_has_no_tag() -> None:
    version = ObjectVersion(1000, modified="Monday")
    assert expect_range(reply(tag="", modified="Monday"), 10, 20, version).nbytes == 10
    with pytest.raises(Fault):
        expect_range(reply(tag="", modified="Tuesday"), 10, 20, version)


@pytest.mark.parametrize("nbytes", [1000, None])
def test_a_small_object_sent_whole_is_cut(nbytes: int | None) -> None:
    body = expect_range(reply(200, "", nbytes), 10, 20, VERSION)
    assert (body.nbytes, body.skip, body.keep) == (1000, 10, 10)


def test_the_end() -> None:
    body = expect_suffix(reply(content_range="bytes 990-999/1000"), 10)
    assert (body.nbytes, body.version) == (10, VERSION)
    body = expect_suffix(reply(content_range="bytes 0-999/1000", nbytes=1000), 5000)
    assert (body.nbytes, body.version) == (1000, VERSION)
    body = expect_suffix(reply(200, "", 1000), 10)
    assert (body.nbytes, body.skip, body.keep) == (1000, 990, 10)
    body = expect_suffix(reply(200, "", 5), 10)
    assert (body.nbytes, body.skip, body.keep) == (5, 0, 5)


@pytest.mark.parametrize(
    "content_range", ["bytes 0-9/1000", "bytes 989-998/1000", "bytes 990-999/*", "nonsense"]
)
def test_another_end(content_range: str) -> None:
    with pytest.raises(Fault):
        expect_suffix(reply(content_range=content_range), 10)
