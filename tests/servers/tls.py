"""TLS before a real server: an authority of its own, and certificates: good, another's, or expired."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "tls_before"]

_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates; who trusts ``path`` believes them.

    Parameters
    ----------
    folder : Path
        Where its certificate and those of servers are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority")
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        begin = datetime.now(timezone.utc) - timedelta(days=1)
        made = (
            _builder(self._name, self._name, self._key, begin, begin + timedelta(days=10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            # Python 3.13 verifies as RFC 5280 asks: these are required of an authority and of what it signs
            .add_extension(_USAGE, critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / "authority.pem"
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def certificate(self, kind: str) -> Path:
        """Return key and certificate of 127.0.0.1: ``good``, ``another`` host's, or ``expired``."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        days = 30 if kind == "expired" else 1
        begin = datetime.now(timezone.utc) - timedelta(days=days)
        host: x509.GeneralName = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        if kind == "another":
            host = x509.DNSName("another.example")
        made = (
            _builder(_name("server"), self._name, key, begin, begin + timedelta(days=10))
            .add_extension(x509.SubjectAlternativeName([host]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{kind}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        return path


@dataclass
class Front:
    """Where TLS is spoken, and how many connections came that far."""

    endpoint: str
    connections: int = 0


@contextmanager
def tls_before(upstream: str, certificate: Path) -> Iterator[Front]:
    """Speak TLS on a port of 127.0.0.1, and pass on to an endpoint what comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    parts = urlsplit(upstream)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()
    front = Front("")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front.connections += 1
        back_reader, back_writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))
        finally:
            back_writer.transport.abort()
            writer.transport.abort()

    async def start() -> asyncio.Server:
        # handshakes that fail are what is tested
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def end() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # what was aborted is closed by the loop's next turns

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    front.endpoint = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
