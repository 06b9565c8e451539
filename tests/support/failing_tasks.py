"""Tasks whose system calls a test lets fail, where an operator alone does not say it in JSON."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import BaseOperator

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator


class CacheDownload(XetDownloadOperator):
    """Downloads to a Hugging Face cache.

    :param cache: its folder.
    """

    def __init__(self, *, cache: str, **kwargs: Any) -> None:
        super().__init__(destination=HubCache(cache), **kwargs)


class HandOver(BaseOperator):
    """Hands a token to a process, and returns whether that could read it.

    :param token: as the XCom of a token task.
    :param folder: where the file goes.
    """

    def __init__(self, *, token: Any, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token = token
        self.folder = folder

    def execute(self, context: Any) -> bool:
        with XetHubConnection().hand_over(self.token, self.folder) as path:
            try:
                found = json.loads(path.read_bytes())
            except OSError as error:  # of this task, not of the provider
                raise AirflowException(f"The token cannot be read: {error}") from error
        return bool(found["access_token"])
