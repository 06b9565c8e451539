"""Object storage with its Airflow connection: what ``ObjectStoragePath`` itself asks for a filesystem."""

from __future__ import annotations

from airflow_provider_xethub.hooks.attempt import current_attempt
from airflow_provider_xethub.xet.files.object_storage import Location, Storage, unusable


def open_storage(where: Location) -> Storage:
    """Return the storage that a place is in; Airflow keeps one filesystem for each scheme and connection.

    :raises XetInputError: there is no provider for the scheme on this worker, or its connection cannot be used.
    :raises XetConnectionError: it does not answer.
    """
    try:
        if where.of is not None:
            return Storage(where.of.fs, where.scheme, where.conn_id, current_attempt())
        from airflow.sdk.io import attach

        return Storage(attach(where.scheme, where.conn_id).fs, where.scheme, where.conn_id, current_attempt())
    except Exception as error:
        raise unusable(where, error) from None
