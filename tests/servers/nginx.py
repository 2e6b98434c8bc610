"""nginx with a folder to be read: what ranged reads cost at best, without signatures. Loopback only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.s3 import S3Server, free_port, wait_for

PACKAGES = ("nginx-light",)

CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/data; }}
}}
"""


def is_installed() -> bool:
    """Tell whether there is one."""
    return shutil.which("nginx") is not None


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Serve ``folder/data`` and yield the endpoint; to an anonymous S3 client a folder there is a bucket."""
    port = free_port()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(CONFIG.format(folder=folder, port=port, user=user))
    process = subprocess.Popen(
        ["nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_for(S3Server("nginx", endpoint, "", "").answers, "nginx", 10)
        yield endpoint
    finally:
        process.terminate()
        process.wait()
