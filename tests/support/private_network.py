"""What stands between a worker and a Hub in a private network: TLS of a private authority, and a proxy, both real."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_BLOCK = 1 << 16


class Listener:
    """Accepts connections on loopback, each in a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Any:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with contextlib.suppress(OSError, ValueError), client:
            self.serve(client)
        self._open.discard(client)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """Pass bytes in both directions until both have ended."""
        self._open.add(other)

        def copy(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while block := source.recv(_BLOCK):
                    target.sendall(block)
            for each in (source, target):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        with other:
            back = threading.Thread(target=copy, args=(other, one), daemon=True)
            back.start()
            copy(one, other)
            back.join()
        self._open.discard(other)


class TlsFront(Listener):
    """Speaks TLS with a certificate of a private authority, and passes everything on to a port."""

    def __init__(self, to_port: int, certificate: Path) -> None:
        super().__init__()
        self.to_port = to_port
        self.url = f"https://127.0.0.1:{self.port}"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def serve(self, client: socket.socket) -> None:
        with self._context.wrap_socket(client, server_side=True) as secure:
            self.join(secure, socket.create_connection(("127.0.0.1", self.to_port)))


class Proxy(Listener):
    """A forward proxy: ``CONNECT`` for https, absolute URLs for http, with a user and a password if given.

    :param routes: ports on loopback for hosts that are not there, such as ``{"sts.amazonaws.com:443": 1234}``.
    :ivar through: what was asked for, such as ``CONNECT 127.0.0.1:443`` or ``GET http://127.0.0.1/x``.
    :ivar refused: requests without the right user and password.
    """

    def __init__(self, user: str = "", password: str = "", routes: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._routes = dict(routes or {})
        self.through: list[str] = []
        self.refused = 0
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            block = client.recv(_BLOCK)
            if not block:
                return
            head += block
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._expected and fields.get("proxy-authorization") != self._expected:
            self.refused += 1
            client.sendall(b'HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
            return
        self.through.append(f"{method} {target}")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        route = self._routes.get(parts.netloc)
        upstream = socket.create_connection(("127.0.0.1", route) if route else (parts.hostname, parts.port or 80))
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            # One request for each connection, so that every one of them is seen.
            kept = [line for line in lines if not line.lower().startswith(("connection:", "proxy-"))]
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            lines = [f"{method} {path or '/'} {version}", *kept, "Connection: close", "", ""]
            upstream.sendall("\r\n".join(lines).encode("latin-1"))
        upstream.sendall(rest)
        self.join(client, upstream)


def private_certificate(path: Path, *names: str) -> Path:
    """Write the certificate of 127.0.0.1, which is its own authority, and its key; and return the path.

    :param names: further hosts that it is for.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    others = [x509.DNSName(each) for each in names]
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *others])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
