"""A client of S3 for many requests at a time.

``s3fs`` sends one request after the other for the content of an object, all in one event loop. ``botocore``, which it
is built on, does not: its requests run in threads, and wait for the network without holding up Python.
"""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_xethub.xet.files.s3.filesystem import S3FileSystem

CONNECTIONS = 64
"""Connections that the client keeps open, unless the connection says otherwise."""

CONNECT_SECONDS, READ_SECONDS = 5, 15
"""Timeouts of ``s3fs``, unless the connection says otherwise."""

_CREDENTIAL_SECONDS = 60


def configured(of_connection: Any | None, *, proxy: str | None = None, is_anonymous: bool = False) -> Any:
    """Return the configuration of a client.

    :param of_connection: that of the connection, which counts.
    :param proxy: the URL of a proxy for all requests.
    :param is_anonymous: whether nothing signs the requests.
    """
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, max_pool_connections=CONNECTIONS)
    if of_connection is not None:
        config = config.merge(of_connection)
    # The checksum of a whole object is compared where all of it is read; that of a range does not exist.
    always: dict[str, Any] = {"response_checksum_validation": "when_required"}
    if proxy:
        always["proxies"] = {"http": proxy, "https": proxy}
    if is_anonymous:
        always["signature_version"] = UNSIGNED
    return config.merge(Config(**always))


def of(fs: Any) -> Any | None:
    """Return a client of ``botocore`` with a filesystem's credentials, endpoint, region, proxy and certificates.

    :param fs: a filesystem, connected or not. One without ``s3fs`` has the client already.
    :returns: ``None`` where the filesystem is not of ``s3fs``, or has settings for its requests that the client lacks:
        another signature, versions, encryption with a key of the caller, requests that the requester pays.
    """
    if isinstance(fs, S3FileSystem):
        return fs.client
    if not type(fs).__module__.startswith("s3fs") or _is_special(fs):
        return None
    import botocore.session
    from botocore.config import Config

    fs.connect()
    session = botocore.session.Session(profile=fs.session.get_config_variable("profile"))
    # The models of the service, which take a while to load, are there already.
    session.register_component("data_loader", fs.session.get_component("data_loader"))
    session.register_component("credential_provider", _Provider(fs))
    known = {"connect_timeout": fs.connect_timeout, "read_timeout": fs.read_timeout, **fs.config_kwargs}
    options = {name: value for name, value in known.items() if name in Config.OPTION_DEFAULTS}
    arguments: dict[str, Any] = {
        "region_name": fs.s3.meta.region_name,
        "use_ssl": fs.use_ssl,
        "verify": fs.session.get_config_variable("ca_bundle"),
    }
    if fs.endpoint_url is not None:
        arguments["endpoint_url"] = fs.endpoint_url
    if fs.key and fs.secret and not fs.anon:
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        arguments |= dict(zip(names, (fs.key, fs.secret, fs.token), strict=True))
    arguments |= fs.client_kwargs
    return session.create_client("s3", config=configured(Config(**options), is_anonymous=fs.anon), **arguments)


def _is_special(fs: Any) -> bool:
    from botocore import UNSIGNED

    # Airflow replaces the signature where a service of its own signs the requests.
    is_signed_elsewhere = fs.config_kwargs.get("signature_version") is UNSIGNED and not fs.anon
    return bool(
        is_signed_elsewhere
        or fs.asynchronous
        or fs.version_aware
        or fs.req_kw
        or fs.s3_additional_kwargs
        or fs.cache_regions
        or fs.client_kwargs.get("config")
    )


class _Provider:
    """Gives the client the credentials of a filesystem, which renews them."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def load_credentials(self) -> Any:
        from botocore.credentials import Credentials, ReadOnlyCredentials

        fs = self._fs
        known = _wait(fs, fs.session.get_credentials())
        if known is None:
            return None

        class Renewed(Credentials):  # type: ignore[misc]
            def get_frozen_credentials(self) -> ReadOnlyCredentials:
                return _wait(fs, known.get_frozen_credentials())

        now = _wait(fs, known.get_frozen_credentials())
        return Renewed(now.access_key, now.secret_key, now.token, method=known.method)


def _wait(fs: Any, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, fs.loop).result(_CREDENTIAL_SECONDS)
