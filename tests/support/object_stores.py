"""Real object storage for tests: an S3 and an SFTP server on loopback, each behind an Airflow connection."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import node_packages

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PASSWORD = "correct horse battery staple"


def forget_filesystems() -> None:
    """Make Airflow open its filesystems again: it keeps them for the life of a process."""
    from airflow.sdk.io import store

    store._STORE_CACHE.clear()


class S3:
    """An S3 server, looked at with a client of its own.

    :param patience: seconds that one answer may take.
    """

    def __init__(self, port: int, key: str = KEY, secret: str = SECRET, patience: int = 60) -> None:
        import boto3
        from botocore.config import Config

        self.url = f"http://127.0.0.1:{port}"
        self._login = {"login": key, "password": secret}
        self._config = {"read_timeout": patience}
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(**self._config),
        )

    def connect(self, monkeypatch: pytest.MonkeyPatch, conn_id: str = "aws", **changes: Any) -> None:
        """Set the Airflow connection."""
        fields = {**self._login, **changes}
        extra = {"endpoint_url": self.url, "region_name": "us-east-1", "config_kwargs": self._config}
        value = {"conn_type": "aws", "extra": extra, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        forget_filesystems()

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        for key, content in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def content(self, bucket: str) -> dict[str, bytes]:
        """Everything in a bucket, by key."""
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        keys = [each["Key"] for each in listed]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def md5(self, bucket: str, prefix: str) -> dict[str, str]:
        """The MD5 of everything below a prefix, by key: S3 keeps it of what arrived in one request."""
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", []):
                digest = each["ETag"].strip('"')
                if "-" in digest:
                    body = self.client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
                    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
                found[each["Key"].removeprefix(prefix)] = digest
        return found

    def unfinished(self, bucket: str) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


@contextmanager
def s3_server() -> Iterator[S3]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield S3(server.get_host_and_port()[1])
    finally:
        server.stop()


@contextmanager
def s3_process() -> Iterator[S3]:
    """The same server in a process of its own, for what takes long: it does not share a GIL with the test."""
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]) as port:
        yield S3(port)


@contextmanager
def s3_on_disk(folder: Path) -> Iterator[S3]:
    """Another server, for large objects: it reads a range of them from disk, where moto reads all of the object.

    It puts an object of many parts together in one answer, without the blanks that S3 sends meanwhile.
    """
    program = Path(__file__).parent / "s3rver"
    node_packages.install(program)
    command = ["node", str(program / "node_modules/s3rver/bin/s3rver.js"), "--silent", "-d", str(folder)]
    with _process([*command, "-a", "127.0.0.1", "-p"]) as port:
        yield S3(port, "S3RVER", "S3RVER", patience=600)


@contextmanager
def _process(command: list[str]) -> Iterator[int]:
    """Run a server, whose command ends with its port, and return that."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


class Sftp:
    """An SFTP server over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0

    def connect(self, monkeypatch: pytest.MonkeyPatch, conn_id: str = "files", **changes: Any) -> None:
        """Set the Airflow connection."""
        fields = {"host": "127.0.0.1", "port": self.port, "login": "airflow", "password": PASSWORD, **changes}
        value = {"conn_type": "sftp", **fields, "extra": {"no_host_key_check": "true"}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        forget_filesystems()


@contextmanager
def sftp_server(folder: Path) -> Iterator[Sftp]:
    import asyncssh

    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("airflow", PASSWORD)

    sftp = Sftp(folder)
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(folder)),
        )
        sftp.port = listener.get_port()
        ready.set()
        await stop.wait()
        listener.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield sftp
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
