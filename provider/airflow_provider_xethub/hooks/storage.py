"""Object storage with its Airflow connection, opened the way ``ObjectStoragePath`` opens it; S3 without ``s3fs``."""

from __future__ import annotations

from typing import Any

from airflow_provider_xethub.hooks.attempt import current_attempt
from airflow_provider_xethub.xet.files.object_storage import MULTIPART, Location, Storage, unusable


def open_storage(where: Location) -> Storage:
    """Return the storage of a location; Airflow keeps one filesystem for each scheme and connection.

    :raises XetInputError: this worker has no provider for the scheme, or its connection cannot be used.
    :raises XetConnectionError: the storage does not answer.
    """
    try:
        return Storage(_filesystem(where), where.scheme, where.conn_id, current_attempt())
    except Exception as error:
        raise unusable(where, error) from None


def _filesystem(where: Location) -> Any:
    from airflow.sdk.io import attach

    if where.of is not None:
        from airflow.sdk import ObjectStoragePath

        if not isinstance(where.of, ObjectStoragePath):
            return where.of.fs
    if where.scheme in MULTIPART:
        from airflow_provider_xethub.hooks import s3_connection

        if fs := s3_connection.filesystem(where.scheme, where.conn_id):
            return fs
    return attach(where.scheme, where.conn_id).fs
