"""What an answer of S3 must say before a request counts as done; pure.

A captive portal or a wrong port answers 200 to everything, with a page or with nothing. Such a success is
a fault, `Kind.UNPROVEN`: a writer then asks once what lies there, and a listing or a removal has failed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_plus

from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import Buffer, bare_tag

__all__ = ["expect_answer", "expect_xml", "tag_of", "tag_of_parts", "unproven"]

Fields = dict[str, Any]
"""Arguments of a request or fields of its answer, as botocore names them."""

HASHED_BYTES = 1 << 20
"""Up to this size the ETag is computed, in 2 ms; for more, one request is the cheaper proof."""

_ROOTS = {
    "CreateMultipartUpload": "InitiateMultipartUpload",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListMultipartUploads",
    "ListParts": "ListParts",
}
"""How the outermost element of an answer begins, by operation: ``Result`` follows, in moto ``Response``. The
other operations answer without a body."""
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?[^>]*>\s*)*<(?:\w+:)?(\w+)")
_MD5 = re.compile(r"[0-9a-f]{32}")
_BUCKET = re.compile(r"[a-z0-9.-]{3,63}")
_ALIASES = ("-s3alias", "--ol-s3")
"""Ends of names of access points, which answer with the name of the bucket behind them."""


def unproven(lacks: str) -> Fault:
    """Return the fault of a success that shows nothing."""
    return Fault(Kind.UNPROVEN, f"the endpoint answered 200 {lacks}: it may not be an S3 server", status=200)


def tag_of(data: Buffer) -> str:
    """Return the ETag of an object put whole; empty where asking the server is cheaper.

    A server that encrypts with keys of its own has other ETags.
    """
    view = memoryview(data)
    return hashlib.md5(view, usedforsecurity=False).hexdigest() if view.nbytes <= HASHED_BYTES else ""


def tag_of_parts(tags: Iterable[str]) -> str:
    """Return the ETag of an object of parts; empty where theirs are not the parts' MD5.

    Examples
    --------
    >>> tag_of_parts(['"0b0075e44d6892fd2f74f970f5ac0d9e"'])
    'e32eb6058d87ec9b5b8944f941775ae7-1'
    """
    bare = [bare_tag(tag) for tag in tags]
    if not all(map(_MD5.fullmatch, bare)):
        return ""
    joined = bytes.fromhex("".join(bare))
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(bare)}"


def expect_xml(operation: str, body: bytes) -> None:
    """Check the body of a success before its fields are believed.

    Raises
    ------
    Fault
        UNPROVEN: it is a page, or an answer to something else. TRANSIENT: it breaks off.
    """
    if not body.strip():
        return  # what an answer lacks is said by its check
    found = _ROOT.match(body)
    root = found[1].decode() if found else ""
    if root == "Error":
        return  # S3's way to fail late, which botocore knows
    expected = _ROOTS.get(operation, "")
    if not root or root.lower() == "html" or not root.startswith(expected):
        raise unproven("with something that is not S3's")
    if expected and not body.rstrip().endswith((f"{root}>".encode(), b"/>")):
        raise Fault(Kind.TRANSIENT, "the answer breaks off", status=200)


def expect_answer(method: str, asked: Fields, answer: Fields) -> None:
    """Check that an answer shows what it stands for.

    Parameters
    ----------
    method : str
        Method of botocore's client.
    asked, answer : dict

    Raises
    ------
    Fault
        UNPROVEN
    """
    _CHECKS[method](asked, answer)


def _expect_object(asked: Fields, answer: Fields) -> None:
    # every server says one of the two about an object; most portals say neither about their page
    dated = bare_tag(answer.get("ETag")) or answer.get("LastModified")
    if answer.get("ContentLength") is None or not dated:
        raise unproven("and describes no object")


def _expect_tag(asked: Fields, answer: Fields) -> None:
    if not bare_tag(answer.get("ETag")):
        raise unproven("without an ETag")


def _expect_upload(asked: Fields, answer: Fields) -> None:
    if not answer.get("UploadId"):
        raise unproven("without an UploadId")
    _expect_names(asked, answer)


def _expect_completed(asked: Fields, answer: Fields) -> None:
    _expect_tag(asked, answer)
    _expect_names(asked, answer)


def _expect_names(asked: Fields, answer: Fields) -> None:
    """Check bucket and key, where an answer names them."""
    if answer.get("Key") not in (None, asked["Key"]) or not _is_bucket(answer.get("Bucket"), asked["Bucket"]):
        raise unproven("for another object")


def _is_bucket(said: str | None, asked: str) -> bool:
    """Tell whether an answer is about a bucket; an access point or tenant goes by another name."""
    return said in (None, asked) or not _BUCKET.fullmatch(asked) or asked.endswith(_ALIASES)


def _expect_gone(asked: Fields, answer: Fields) -> None:
    if answer["ResponseMetadata"]["HTTPStatusCode"] != 204:
        raise unproven("where S3 answers 204")


def _expect_objects(asked: Fields, answer: Fields) -> None:
    _expect_listing(asked, answer, answer.get("Name"))
    _expect_entries(asked, answer.get("Contents"), "Size")


def _expect_uploads(asked: Fields, answer: Fields) -> None:
    _expect_listing(asked, answer, answer.get("Bucket"))
    _expect_entries(asked, answer.get("Uploads"), "UploadId", "Initiated")


def _expect_listing(asked: Fields, answer: Fields, bucket: str | None) -> None:
    if not bucket or answer.get("IsTruncated") is None:
        raise unproven("with no listing")
    # some servers leave the prefix out; Ceph 16 sends it as it is where botocore decodes it
    said, prefix = answer.get("Prefix") or asked["Prefix"], asked["Prefix"]
    same = {said, unquote_plus(said)} & {prefix, unquote_plus(prefix)}
    if not same or not _is_bucket(bucket, asked["Bucket"]):
        raise unproven("with another listing")


def _expect_entries(asked: Fields, entries: list[Fields] | None, *names: str) -> None:
    for entry in entries or []:
        if any(entry.get(name) is None for name in names) or not str(entry.get("Key", "")).startswith(
            asked["Prefix"]
        ):
            raise unproven("with a listing of something else")


def _expect_parts(asked: Fields, answer: Fields) -> None:
    if answer.get("UploadId") != asked["UploadId"]:
        raise unproven("with no list of this upload's parts")


_CHECKS: dict[str, Callable[[Fields, Fields], None]] = {
    "head_object": _expect_object,
    "put_object": _expect_tag,
    "delete_object": _expect_gone,
    "create_multipart_upload": _expect_upload,
    "upload_part": _expect_tag,
    "complete_multipart_upload": _expect_completed,
    "abort_multipart_upload": _expect_gone,
    "list_objects_v2": _expect_objects,
    "list_multipart_uploads": _expect_uploads,
    "list_parts": _expect_parts,
}
"""By method: one that is not here is not called."""
