"""What a server that lies answers: operations of S3's protocol, and replies that are not theirs."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

__all__ = ["PAGES", "has_document", "operation_of", "page", "replies_to"]

_OPERATIONS = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "uploadId"): "ListParts",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_OBJECTS = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


def operation_of(method: str, target: str) -> str:
    """Return what S3 calls a request."""
    asked = parse_qs(urlsplit(target).query, keep_blank_values=True)
    found = [name for (verb, key), name in _OPERATIONS.items() if verb == method and key in asked]
    return found[0] if found else _OBJECTS[method]


def has_document(operation: str) -> bool:
    """Tell whether the reply to an operation has a body of XML."""
    return operation in _ROOTS


def page(body: str, *headers: str, status: int = 200) -> bytes:
    """Return a reply, whole and honest about its length."""
    data = body.encode()
    lines = [f"HTTP/1.1 {status} OK", *headers]
    if status != 204:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


_ROOTS = {
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "ListObjectsV2": "ListBucketResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListParts": "ListPartsResult",
}
_XML = "Content-Type: application/xml"
_HTML = "Content-Type: text/html; charset=utf-8"
_SIGN_IN = "<!DOCTYPE html><html><head><title>Wi-Fi</title></head><body>Sign in<br></body></html>\n"
_XHTML = "<html xmlns='http://www.w3.org/1999/xhtml'><body><p>Sign in</p></body></html>"
_BUCKETS = "<?xml version='1.0'?><ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"

PAGES = {
    "nothing": page(""),
    "no content": page("", status=204),
    "html": page(_SIGN_IN, _HTML),
    "moved": page("", status=301),
    "xhtml": page(_XHTML, _HTML),
    "file": page(_SIGN_IN, _HTML, 'ETag: "65a8e27d-5a"', "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT"),
    "text": page("OK", "Content-Type: text/plain"),
    "xml": page(_BUCKETS, _XML),
}
"""What answers every request alike, by name; ``file`` is what a web server says of a page on its disk."""


def replies_to(operation: str) -> dict[str, bytes]:
    """Return replies that a request of S3 never gets, by name."""
    root = _ROOTS.get(operation)
    return {**PAGES, "hollow": page(f"<{root}></{root}>", _XML)} if root else PAGES
