"""S3 with an Airflow connection, without ``s3fs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.xet.files.s3 import client as s3_client

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.files.s3.filesystem import S3FileSystem

_opened: dict[tuple[str, str | None], tuple[Any, S3FileSystem]] = {}


def filesystem(scheme: str, conn_id: str | None) -> S3FileSystem | None:
    """Return S3 with a connection; ``None`` where only Airflow's own filesystem will do.

    That is so where a filesystem was attached for the connection, or is open already, where ``fsspec`` has settings
    for S3 (such as ``requester_pays``), and where a service of its own signs the requests.
    """
    from airflow.sdk.io import attach

    store = attach(scheme, conn_id)
    if "fs" in vars(store):
        return None
    known = _opened.get((scheme, conn_id))
    if known and known[0] is store:
        return known[1]
    client = None if _has_fsspec_settings(scheme) else _client(conn_id)
    if client is None:
        return None
    from airflow_provider_xethub.xet.files.s3.filesystem import S3FileSystem

    opened = S3FileSystem(client)
    _opened[scheme, conn_id] = store, opened
    return opened


def _has_fsspec_settings(scheme: str) -> bool:
    from fsspec.config import conf

    return any(conf.get(name) for name in {"s3", "s3a", scheme})


def _client(conn_id: str | None) -> Any | None:
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    except ImportError:
        return None
    # Not its own client: to name the DAG in each request, that one reads the source of all functions that called it.
    hook: Any = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    connection, service = hook.conn_config, hook.service_config
    if service.get("signer"):
        return None
    session = hook.get_session()
    config = s3_client.configured(
        connection.botocore_config, proxy=service.get("proxy-uri"), is_anonymous=session.get_credentials() is None
    )
    url = connection.get_service_endpoint_url(service_name="s3")
    return session.client("s3", endpoint_url=url, config=config, verify=hook.verify)
