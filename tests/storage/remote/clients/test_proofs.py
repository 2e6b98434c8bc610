"""What an answer of S3 must say before a request counts as done."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

import pytest

from archive.storage.remote.clients import proofs
from archive.storage.remote.clients.proofs import expect_answer, expect_xml, tag_of, tag_of_parts
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import bare_tag

TARGET = {"Bucket": "bucket", "Key": "folder/m.h5"}
FOLDER = {"Bucket": "bucket", "Prefix": "a folder+/"}
PARTS = TARGET | {"UploadId": "7"}
NOON = datetime(2026, 11, 2, 12, tzinfo=timezone.utc)
GONE = {"ResponseMetadata": {"HTTPStatusCode": 204}}
DONE = {"ResponseMetadata": {"HTTPStatusCode": 200}}
OBJECTS = {"Name": "bucket", "Prefix": "a folder+/", "IsTruncated": False}
UPLOADS = {"Bucket": "bucket", "IsTruncated": False}
ENTRY = {"Key": "a folder+/m.h5", "Size": 0}
PENDING = {"Key": "a folder+/m.h5", "UploadId": "7", "Initiated": NOON}

Fields = dict[str, Any]


@pytest.mark.parametrize(
    ("method", "asked", "answer"),
    [
        ("head_object", TARGET, {"ContentLength": 0, "ETag": '"x"'}),
        ("head_object", TARGET, {"ContentLength": 9, "LastModified": NOON}),
        ("put_object", TARGET, {"ETag": '"x"'}),
        ("upload_part", PARTS, {"ETag": "x"}),
        ("delete_object", TARGET, GONE),
        ("abort_multipart_upload", PARTS, GONE),
        ("create_multipart_upload", TARGET, {"UploadId": "7"}),
        ("create_multipart_upload", TARGET, TARGET | {"UploadId": "7"}),
        ("complete_multipart_upload", PARTS, TARGET | {"ETag": '"x-2"'}),
        ("complete_multipart_upload", PARTS, {"ETag": '"x-2"'}),
        ("list_objects_v2", FOLDER, OBJECTS),
        ("list_objects_v2", FOLDER, OBJECTS | {"Prefix": "a+folder%2B/", "Contents": [ENTRY]}),
        ("list_objects_v2", FOLDER, OBJECTS | {"Prefix": "a folder /"}),
        ("list_objects_v2", FOLDER | {"Prefix": ""}, {"Name": "bucket", "IsTruncated": False}),
        ("list_multipart_uploads", FOLDER, UPLOADS),
        ("list_multipart_uploads", FOLDER, UPLOADS | {"Uploads": [PENDING]}),
        ("list_parts", PARTS, {"UploadId": "7"}),
    ],
)
def test_proof(method: str, asked: Fields, answer: Fields) -> None:
    expect_answer(method, asked, answer)


@pytest.mark.parametrize(
    ("method", "asked", "answer"),
    [
        ("head_object", TARGET, {"ContentLength": 9}),
        ("head_object", TARGET, {"ETag": '"x"'}),
        ("put_object", TARGET, {}),
        ("put_object", TARGET, {"ETag": None}),
        ("put_object", TARGET, {"ETag": '""'}),
        ("upload_part", PARTS, {}),
        ("delete_object", TARGET, DONE),
        ("abort_multipart_upload", PARTS, DONE),
        ("create_multipart_upload", TARGET, TARGET),
        ("create_multipart_upload", TARGET, TARGET | {"UploadId": "7", "Key": "folder/n.h5"}),
        ("create_multipart_upload", TARGET, TARGET | {"UploadId": "7", "Bucket": "tub"}),
        ("complete_multipart_upload", PARTS, TARGET),
        ("complete_multipart_upload", PARTS, TARGET | {"ETag": '"x-2"', "Key": "m.h5"}),
        ("list_objects_v2", FOLDER, {}),
        ("list_objects_v2", FOLDER, UPLOADS),
        ("list_objects_v2", FOLDER, OBJECTS | {"Name": "tub"}),
        ("list_objects_v2", FOLDER, OBJECTS | {"Prefix": "another/"}),
        ("list_objects_v2", FOLDER, OBJECTS | {"IsTruncated": None}),
        ("list_objects_v2", FOLDER, OBJECTS | {"Contents": [ENTRY | {"Key": "another/m.h5"}]}),
        ("list_objects_v2", FOLDER, OBJECTS | {"Contents": [ENTRY, {"Key": "a folder+/n.h5"}]}),
        ("list_multipart_uploads", FOLDER, OBJECTS),
        ("list_multipart_uploads", FOLDER, UPLOADS | {"Uploads": [{"Key": "a folder+/m.h5"}]}),
        ("list_multipart_uploads", FOLDER, UPLOADS | {"Uploads": [PENDING | {"Key": "m.h5"}]}),
        ("list_parts", PARTS, {}),
        ("list_parts", PARTS, {"UploadId": "8"}),
    ],
)
def test_no_proof(method: str, asked: Fields, answer: Fields) -> None:
    with pytest.raises(Fault, match="the endpoint answered 200") as caught:
        expect_answer(method, asked, answer)
    assert caught.value.kind is Kind.UNPROVEN


@pytest.mark.parametrize("bucket", ["arn:aws:s3:eu-west-1:123456789012:accesspoint/x", "x-s3alias", "me:x"])
def test_access_points_and_tenants_have_another_name(bucket: str) -> None:
    asked = TARGET | {"Bucket": bucket}
    expect_answer("create_multipart_upload", asked, TARGET | {"UploadId": "7"})


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("PutObject", b""),
        ("PutObject", b"\n"),
        ("ListParts", b"<ListPartsResponse/>"),
        ("ListParts", b" <?xml version='1.0'?>\n<s3:ListPartsResult xmlns:s3='x'></s3:ListPartsResult>\n"),
        ("CompleteMultipartUpload", b"<Error><Code>InternalError</Code></Error>"),
        (
            "CompleteMultipartUpload",
            b"   <CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
        ),
    ],
)
def test_documents(operation: str, body: bytes) -> None:
    expect_xml(operation, body)


@pytest.mark.parametrize(
    ("operation", "body", "kind"),
    [
        ("PutObject", b"<!DOCTYPE html><html>", Kind.UNPROVEN),
        ("PutObject", b"<HTML></HTML>", Kind.UNPROVEN),
        ("PutObject", b"OK", Kind.UNPROVEN),
        ("ListParts", b"<ListMultipartUploadsResult/>", Kind.UNPROVEN),
        ("ListParts", b"\x00\xff", Kind.UNPROVEN),
        ("ListParts", b"<ListPartsResult><UploadId>7</Up", Kind.TRANSIENT),
    ],
)
def test_other_documents(operation: str, body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        expect_xml(operation, body)
    assert caught.value.kind is kind


def test_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bare_tag('"x"') == bare_tag("x") == "x"
    assert tag_of(memoryview(b"x")) == hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    assert tag_of_parts([f'"{tag_of(b"")}"', "of a server that encrypts"]) == ""
    monkeypatch.setattr(proofs, "HASHED_BYTES", 1)
    assert tag_of(b"xx") == ""
