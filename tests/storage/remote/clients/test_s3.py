"""The storage suite over S3, and what is S3's alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

import archive
from archive.errors import ExistsError, MissingError, StorageError, UnsupportedURLError
from archive.storage.location import locate_store
from archive.storage.remote.cachefolder import list_cache
from archive.storage.remote.clients import open_store
from archive.storage.remote.clients.retry import Kind
from archive.storage.remote.clients.s3client import fault_of
from archive.storage.remote.objectstore import PROBE_PREFIX, PROBES
from archive.storage.url import parse_url
from archive.tools.collection import collect_garbage
from tests.children import join_threads
from tests.servers.lies import PAGES
from tests.servers.proxy import Fault, Proxy, Request
from tests.servers.s3 import BUCKET, S3Server, wait_for
from tests.storage.suite import DATA, Root, StorageTests


class TestS3(StorageTests):
    multipart = True
    exclusive_put = True

    @pytest.fixture
    def root(self, server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch) -> Root:
        monkeypatch.setattr(type(self), "exclusive_multipart", server.conditional_multipart)
        return Root(f"s3://{BUCKET}/{folder}", server.options())


@pytest.fixture
def root(proxy: Proxy, server: S3Server, folder: str) -> Root:
    """A folder behind the proxy."""
    return Root(f"s3://{BUCKET}/{folder}", server.options(proxy.endpoint, read_timeout=1))


SECRET = "a-secret-that-nobody-may-see"
CONFIGURATION = f"""
[profile sso]
sso_session = ours
sso_account_id = 111122223333
sso_role_name = reader
[sso-session ours]
sso_region = us-east-1
sso_start_url = https://nowhere.invalid/start
[profile fails]
credential_process = /bin/false {SECRET}
[profile gone]
credential_process = /nonexistent/program {SECRET}
[profile role]
role_arn = arn:aws:iam::111122223333:role/reader
source_profile = nobody
"""
PROBLEMS = {
    "nobody": ("the AWS profile does not exist", "AWS_PROFILE"),
    "sso": ("the SSO login is missing, or has expired", "aws sso login"),
    "fails": ("program or file that the AWS configuration names", "credential_process"),
    "gone": ("program or file that the AWS configuration names", "credential_process"),
    "role": ("the AWS configuration is invalid", "~/.aws"),
    "half": ("the credentials are incomplete", "both key and secret"),
}


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files of the AWS configuration, no credentials elsewhere; a URL that no request is sent for."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    (tmp_path / "config").write_text(CONFIGURATION, encoding="utf-8")
    (tmp_path / "credentials").write_text("[half]\naws_access_key_id = AKID\n", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return f"s3://{BUCKET}/m.h5"


def refusal(url: str, **options: Any) -> str:
    """Return the message of an open that sends nothing, which repeats no secret."""
    with pytest.raises(StorageError) as caught:
        archive.open(url, storage_options=options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("profile", PROBLEMS)
def test_a_stale_profile_is_named_as_such(
    configured: str, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", profile)
    message = refusal(configured)
    for part in PROBLEMS[profile]:
        assert part in message


def test_a_configuration_that_cannot_be_read(configured: str, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"[half]\naws_secret_access_key {SECRET}\n", encoding="utf-8")
    assert "the AWS configuration is invalid" in refusal(configured)


def test_certificates_that_are_not_there(configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent")
    assert "AWS_CA_BUNDLE" in refusal(configured, anon=True, endpoint_url="https://127.0.0.1:9")


def test_an_endpoint_without_scheme(configured: str) -> None:
    assert "endpoint_url is not a URL; write http://" in refusal(
        configured, anon=True, endpoint_url="127.0.0.1:9"
    )


@pytest.mark.parametrize("url", [f"s3://{BUCKET}", f"s3://AKID:{SECRET}@{BUCKET}/m.h5"])
def test_a_url_without_object_or_with_credentials(configured: str, url: str) -> None:
    assert "write s3://bucket/key; credentials belong in" in refusal(url, anon=True)


def test_an_unknown_option_leads_to_the_known(configured: str) -> None:
    message = refusal(configured, endpoint="http://127.0.0.1:9")
    assert "unknown option 'endpoint'" in message
    assert "such as endpoint_url, key, secret, token" in message


@pytest.mark.slow
def test_a_missing_login_prints_one_line(configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "sso")
    command = [sys.executable, "-m", "archive", "info", configured]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1  # aiobotocore logs a traceback


def test_requests_are_what_they_must_be(root: Root, proxy: Proxy) -> None:
    store, path = locate_store(root.location("object"))
    proxy.reset()
    store.put(path, DATA)
    _, version = store.get_suffix(path, 1000)
    store.get_range(path, 100, 200, version)
    assert [(request.method, request.range) for request in proxy.seen] == [
        ("PUT", ""),
        ("GET", "bytes=-1000"),
        ("GET", "bytes=100-199"),
    ]
    assert [request.sent for request in proxy.seen[1:]] == [1000, 100]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": 9}, "'retries'.*FEDARCHIVE_RETRY_SECONDS"),
        ({"config_kwargs": {"retries": {"max_attempts": 9}}}, "'retries'.*FEDARCHIVE_RETRY_SECONDS"),
        ({"client_kwargs": {"regoin_name": "SECRET"}}, "unknown option 'regoin_name'"),
        ({"config_kwargs": {"read_timeuot": "SECRET"}}, "'read_timeuot'"),
    ],
)
def test_options_that_are_not_honoured_are_named(
    server: S3Server, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(StorageError, match=said) as caught:
        archive.open(f"s3://{BUCKET}/model.h5", storage_options={**server.options(), **options})
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_version_is_read_and_not_changed(server: S3Server, folder: str) -> None:
    """Saving to one replaced the current object."""
    url, options = f"s3://{BUCKET}/{folder}/m.h5", server.options()
    archive.save({"w": np.ones(3)}, url, storage_options=options)
    versioned = f"{url}?versionId=1"
    store, path = locate_store(parse_url(versioned, options))
    for change in (
        lambda: archive.save({"w": np.zeros(3)}, versioned, storage_options=options),
        lambda: archive.save({"w": np.zeros(3)}, versioned, keep_input=False, storage_options=options),
        lambda: store.put(path, b"data"),
        lambda: store.create_multipart(path),
        lambda: store.delete(path),
    ):
        with pytest.raises(UnsupportedURLError, match="version"):
            change()
    record = archive.load(url, storage_options=options).array_records["model"]
    assert record["w"].numpy().tolist() == [1, 1, 1]


def test_probes_of_killed_processes_are_collected(server: S3Server, folder: str) -> None:
    store, path = locate_store(parse_url(f"s3://{BUCKET}/{folder}", server.options()))
    names = [f"{PROBE_PREFIX}{'0' * 16}", f"deep/{PROBE_PREFIX}{'1' * 16}", f"{PROBE_PREFIX}notes", "m.h5"]
    for name, content in zip(names, [*PROBES, b"my own", PROBES[0]], strict=True):
        store.put(f"{path}/{name}", content)
    url = f"s3://{BUCKET}/{folder}"
    assert collect_garbage(url, older_than=3600, storage_options=server.options()) == []
    found = collect_garbage(url, older_than=-60, storage_options=server.options())
    assert sorted(left.path for left in found) == sorted(f"{url}/{name}" for name in names[:2])
    assert sorted(server.keys(folder)) == sorted(f"{folder}/{name}" for name in names[2:])


def test_probes_that_another_process_removes_meanwhile(server: S3Server, folder: str, proxy: Proxy) -> None:
    """Of what was removed before nothing was reported: the collection ended in a MissingError."""
    keys = [f"{folder}/{PROBE_PREFIX}{number}" for number in "123"]
    for key in keys:
        server.client.put_object(Bucket=BUCKET, Key=key, Body=b"fedarchive")

    def remove(request: Request) -> None:
        for method, key in (("GET", keys[1]), ("DELETE", keys[2])):
            if request.method == method and request.target.startswith(f"/{BUCKET}/{key}"):
                server.client.delete_object(Bucket=BUCKET, Key=key)

    proxy.plan = remove
    options = server.options(proxy.endpoint)
    removed = collect_garbage(f"s3://{BUCKET}/{folder}", older_than=-60, storage_options=options)
    assert f"s3://{BUCKET}/{keys[0]}" in [garbage.path for garbage in removed]
    assert "Contents" not in server.client.list_objects_v2(Bucket=BUCKET, Prefix=folder)


def test_a_precondition_that_is_ignored_is_found_out(root: Root, proxy: Proxy) -> None:
    """A store that answers every conditional request with success promises nothing."""
    store, path = locate_store(root.location("object"))
    proxy.reset()
    assert store.is_exclusive(path, multipart=False)
    asked = len(proxy.seen)
    assert asked == 3  # put, put again, delete
    assert store.is_exclusive(path, multipart=False)
    assert len(proxy.seen) == asked


@pytest.mark.parametrize("exclusive", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_lost_answer_is_no_failure(root: Root, proxy: Proxy, exclusive: bool) -> None:
    store, path = locate_store(root.location("object"))
    proxy.reset(lambda request: "lost" if request.method == "PUT" else None)
    store.put(path, DATA, exclusive=exclusive)
    proxy.reset()
    assert bytes(store.get_suffix(path, 10)[0]) == DATA[-10:]
    with pytest.raises(ExistsError):
        store.put(path, b"second", exclusive=True)


def test_an_upload_begun_unheard_is_swept_up(root: Root, proxy: Proxy, server: S3Server, folder: str) -> None:
    store, path = locate_store(root.location("object"))
    proxy.reset(lambda request: "lost" if request.number == 0 else None)
    upload = store.create_multipart(path)
    upload.put_part(1, b"kept")
    upload.complete(exclusive=False)
    assert server.uploads(folder) == []


@pytest.mark.parametrize("end", ["complete", "abort", "forget"])
def test_an_upload_begun_late_is_swept_up(proxy: Proxy, server: S3Server, folder: str, end: str) -> None:
    """The server begins it long after its client asked again."""
    options = server.options(proxy.endpoint, read_timeout=1)
    store, path = locate_store(parse_url(f"s3://{BUCKET}/{folder}/object", options))
    go_on = threading.Event()
    late = Fault("", before=lambda: go_on.wait(60))
    proxy.reset(lambda request: late if request.number == 0 else None)
    upload = store.create_multipart(path)
    upload.put_part(1, b"kept")
    go_on.set()
    wait_for(lambda: len(server.uploads(folder)) > 1, "the first upload", 60)
    if end == "forget":
        del upload
        gc.collect()
        join_threads("fedarchive-abort")
    else:
        upload.complete(exclusive=False) if end == "complete" else upload.abort()
    assert server.uploads(folder) == []


def test_an_upload_whose_parts_nobody_may_list_keeps_no_other(
    root: Root, proxy: Proxy, server: S3Server, folder: str
) -> None:
    store, path = locate_store(root.location("object"))
    refused: list[Request] = []

    def plan(request: Request) -> str | None:
        if request.number < 2:
            return "lost"
        if "max-parts" in request.target and not refused:
            refused.append(request)
            return "403 AccessDenied"
        return None

    proxy.reset(plan)
    store.create_multipart(path).abort()
    assert refused
    assert len(server.uploads(folder)) == 1


def test_an_upload_that_keeps_parts_is_aborted_again(
    root: Root, proxy: Proxy, server: S3Server, folder: str
) -> None:
    """S3 keeps a part that it was storing as it answered that the upload was aborted."""
    store, path = locate_store(root.location("object"))
    upload = store.create_multipart(path)
    upload.put_part(1, b"kept")
    deletes: list[Request] = []

    def plan(request: Request) -> Fault | None:
        if request.method == "DELETE":
            deletes.append(request)
        first = request.method == "DELETE" and len(deletes) == 1
        return Fault("lie", reply=PAGES["no content"]) if first else None

    proxy.reset(plan)
    upload.abort()
    assert len(deletes) == 2
    assert server.uploads(folder) == []


def test_who_collects_garbage_waits_for_no_server(proxy: Proxy, server: S3Server, folder: str) -> None:
    """It may be any thread, also one that the server's answer depends on."""
    options = server.options(proxy.endpoint)
    store, path = locate_store(parse_url(f"s3://{BUCKET}/{folder}/object", options))
    collected, waited = threading.Event(), list[bool]()
    held = Fault("", before=lambda: waited.append(collected.wait(10)))
    proxy.reset(lambda request: held if request.method == "DELETE" else None)
    upload = store.create_multipart(path)
    del upload
    gc.collect()
    collected.set()
    join_threads("fedarchive-abort")
    assert waited == [True]
    assert server.uploads(folder) == []


def test_the_upload_of_another_writer_is_left_alone(
    root: Root, proxy: Proxy, server: S3Server, folder: str
) -> None:
    store, path = locate_store(root.location("object"))
    others = store.create_multipart(path)
    others.put_part(1, b"theirs")
    proxy.reset(lambda request: "lost" if request.number == 0 else None)
    store.create_multipart(path).abort()
    others.complete(exclusive=False)
    assert bytes(store.get_suffix(path, 10)[0]) == b"theirs"


@pytest.mark.needs("os.fork")
def test_a_fork_does_not_abort_its_parents_upload(root: Root, server: S3Server, folder: str) -> None:
    store, path = locate_store(root.location("object"))
    upload = store.create_multipart(path)
    upload.put_part(1, b"ours")
    child = os.fork()
    if not child:
        del upload
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    upload.complete(exclusive=False)
    assert bytes(store.get_suffix(path, 10)[0]) == b"ours"


def test_an_interpreter_that_ends_within_an_upload(server: S3Server, folder: str) -> None:
    script = (
        "from archive.storage.location import locate_store\n"
        "from archive.storage.url import parse_url\n"
        f"store, path = locate_store(parse_url('s3://{BUCKET}/{folder}/x', {server.options()!r}))\n"
        "upload = store.create_multipart(path)\n"
        "upload.put_part(1, b'some bytes')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, check=True, timeout=60
    )
    assert done.stderr == b""
    assert server.uploads(folder) == []


def test_many_pages(server: S3Server, folder: str) -> None:
    store, _ = locate_store(parse_url(f"s3://{BUCKET}/x", {**server.options(), "max_concurrency": 1}))
    store.client.filesystem().s3_additional_kwargs["MaxKeys"] = 3  # type: ignore[attr-defined]
    names = [f"{number:02}" for number in range(10)]
    for name in names:
        store.put(f"{BUCKET}/{folder}/{name}", b"")
    assert [entry.path for entry in store.list(f"{BUCKET}/{folder}")] == names


def test_clients_are_shared_but_not_across_settings(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(**options: object) -> object:
        return open_store(parse_url(f"s3://{BUCKET}/x", {**server.options(), **options}))[0]

    assert client() is client()
    assert client(requester_pays=True) is not client()
    assert client(session=object()) is not client(session=object())
    before = client()
    monkeypatch.setenv("AWS_PROFILE", "another")
    assert client() is not before


def test_metadata_of_the_user_is_kept(server: S3Server, folder: str) -> None:
    options = {**server.options(), "s3_additional_kwargs": {"Metadata": {"round": "7"}}}
    archive.save({"w": np.ones(3)}, f"s3://{BUCKET}/{folder}/m.h5", storage_options=options)
    found = server.client.head_object(Bucket=BUCKET, Key=f"{folder}/m.h5")["Metadata"]
    assert found["round"] == "7"
    assert len(found["fedarchive-write"]) == 32


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of a blockcache of fsspec
@pytest.mark.parametrize("chain", ["simplecache", "filecache", "blockcache"])
def test_a_chain_of_file_systems(server: S3Server, folder: str, tmp_path: Path, chain: str) -> None:
    plain = f"s3://{BUCKET}/{folder}/m.h5"
    archive.save({"w": np.arange(5.0)}, plain, storage_options=server.options())
    options = {"s3": server.options(), chain: {"cache_storage": str(tmp_path)}}
    with archive.open(f"{chain}::{plain}", storage_options=options) as handle:
        assert handle["w"].numpy().tolist() == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir())
    with pytest.raises(MissingError):
        archive.open(f"{chain}::s3://no-such-bucket/m.h5", storage_options=options)


@pytest.mark.parametrize("wrong", [{"key": 123, "secret": 456}, {"token": 5}])
def test_credentials_that_are_numbers(server: S3Server, folder: str, wrong: dict[str, int]) -> None:
    """As the command line takes them: `-o key=123` is a number in JSON."""
    url, options = f"s3://{BUCKET}/{folder}/m.h5", {**server.options(), **wrong}
    with pytest.raises(StorageError, match="check storage_options"):
        archive.open(url, storage_options=options)
    with pytest.raises(StorageError, match="check storage_options"):
        archive.save({"w": np.ones(3)}, url, storage_options=options)


def test_a_wait_that_is_no_number() -> None:
    answer = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "\xb2"}}  # a digit, says str.isdigit
    fault = fault_of(ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": answer}, ""))
    assert (fault.kind, fault.wait) == (Kind.TRANSIENT, 0.0)


def _load_model(url: str, folder: Path, **reading: Any) -> None:
    torch = pytest.importorskip("torch")
    from archive.interop.torch import load_model

    load_model(torch.nn.Linear(300, 200, bias=False), url, **reading)


def _open_round(url: str, folder: Path, **reading: Any) -> None:
    with archive.CheckpointStore(url.rpartition("/rounds/")[0], **reading).open(3) as handle:
        handle["weight"].numpy()


READERS: dict[str, Callable[..., object]] = {
    "load": lambda url, folder, **reading: archive.load(url, **reading),
    "verify": lambda url, folder, **reading: archive.verify(url, **reading),
    "copy": lambda url, folder, **reading: archive.tools.copy(url, folder / "copy.h5", **reading),
    "mean": lambda url, folder, **reading: archive.mean([url, url], out=folder / "mean.h5", **reading),
    "table": lambda url, folder, **reading: archive.table([url], **reading),
    "load_model": _load_model,
    "store": _open_round,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.needs("fcntl")
def test_a_cache_of_every_reader(
    server: S3Server, folder: str, proxy: Proxy, tmp_path: Path, read: Callable[..., object]
) -> None:
    url = f"s3://{BUCKET}/{folder}/rounds/00000003.h5"
    weights = np.random.default_rng(3).random((200, 300), np.float32)
    archive.save({"weight": weights}, url, metrics={"loss": 0.5}, storage_options=server.options())
    reading = {"storage_options": server.options(proxy.endpoint), "cache": tmp_path / "cache"}
    read(url, tmp_path, **reading, cache_bytes=10**9)
    first = proxy.bytes_sent
    proxy.reset()
    read(url, tmp_path, **reading, cache_bytes=10**9)
    assert proxy.bytes_sent <= 2000 < 3000 < first  # the footer of each archive, a listing
    assert list((tmp_path / "cache").glob("*.bytes"))
    read(url, tmp_path, **reading, cache_bytes=0)
    assert sum(entry.cached_bytes for entry in list_cache(str(tmp_path / "cache"))) == 0
