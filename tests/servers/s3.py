"""An S3 server that tests talk to: moto's own process, or the one that the environment names.

``FEDARCHIVE_S3="NAME ENDPOINT KEY SECRET"`` names one that is running already; `poe s3` sets it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.children import child_environment

BUCKET = "fedarchive"
REGION = "us-east-1"


@dataclass
class S3Server:
    """Where it is, and who may use it."""

    name: str
    endpoint: str
    key: str
    secret: str

    @property
    def named(self) -> str:
        """What FEDARCHIVE_S3 is, for another process."""
        return f"{self.name} {self.endpoint} {self.key} {self.secret}"

    @property
    def conditional_multipart(self) -> bool:
        """Whether completing an upload respects If-None-Match; Ceph 16 ignores it."""
        return self.name != "ceph"

    def options(self, endpoint: str = "", **config: Any) -> dict[str, Any]:
        """Return storage_options, of a proxy before it if ``endpoint`` is given."""
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": endpoint or self.endpoint,
            "client_kwargs": {"region_name": REGION},
            **({"config_kwargs": config} if config else {}),
        }

    def environment(self) -> dict[str, str]:
        """Return the variables by which every S3 client finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    @cached_property
    def client(self) -> Any:
        """A client that is not ours, to look behind our back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=REGION,
            config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 1}),
        )

    def answers(self) -> bool:
        """Tell whether anything listens."""
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False

    def make_bucket(self) -> bool:
        """Create the bucket that tests write to."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.create_bucket(Bucket=BUCKET)
        except (ClientError, BotoCoreError):
            return False
        return True

    def uploads(self, prefix: str = "") -> list[str]:
        """Return the keys of uploads that were begun and not ended."""
        page = self.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        return [upload["Key"] for upload in page.get("Uploads", [])]

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix."""
        page = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in page.get("Contents", [])]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(ready: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until ``ready`` says so."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up within {seconds:.0f} s")
        time.sleep(0.1)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Yield the server that the environment names, or one of moto's that ends with this."""
    named = os.environ.get("FEDARCHIVE_S3")
    if named:
        yield S3Server(*named.split())
        return
    port = free_port()
    server = S3Server("moto", f"http://127.0.0.1:{port}", "AKIDFEDARCHIVE", "not-a-secret-key")
    command = [sys.executable, "-W", "ignore", "-m", "tests.servers.datedmoto", str(port)]
    environment = child_environment(S3_UPLOAD_PART_MIN_SIZE="1024")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(server.answers, "moto", 60)
        server.make_bucket()
        yield server
        server.client.close()
    finally:
        process.kill()
        process.wait()
