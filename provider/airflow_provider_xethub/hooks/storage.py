"""Object storage with its Airflow connection, opened the way ``ObjectStoragePath`` opens it."""

from __future__ import annotations

from airflow_provider_xethub.hooks.attempt import current_attempt
from airflow_provider_xethub.xet.files.object_storage import Location, Storage, unusable


def open_storage(where: Location) -> Storage:
    """Return the storage of a location; Airflow keeps one filesystem for each scheme and connection.

    :raises XetInputError: this worker has no provider for the scheme, or its connection cannot be used.
    :raises XetConnectionError: the storage does not answer.
    """
    try:
        if where.of is not None:
            return Storage(where.of.fs, where.scheme, where.conn_id, current_attempt())
        from airflow.sdk.io import attach

        return Storage(attach(where.scheme, where.conn_id).fs, where.scheme, where.conn_id, current_attempt())
    except Exception as error:
        raise unusable(where, error) from None
