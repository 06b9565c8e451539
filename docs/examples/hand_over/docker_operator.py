"""A ``DockerOperator`` whose container gets a Xet token as a file."""

from __future__ import annotations

import json
import os
from typing import Any

from airflow.providers.docker.operators.docker import DockerOperator
from docker.types import Mount

from airflow_provider_xethub.hooks.xethub import XetHubConnection


class XetDockerOperator(DockerOperator):
    """Run a container that finds an open Xet token in ``/run/xethub/token.json``; return the JSON that it prints last.

    :param token_task_id: the ``XetTokenOperator`` that fetched the token.
    :param xethub_conn_id: the connection that renews it while the container runs; ``None`` where there is none.
    :param token_folder: an existing folder that is at the same path for this worker and for the Docker daemon. Needed
        where the worker runs in a container itself.
    """

    def __init__(
        self,
        *,
        token_task_id: str,
        xethub_conn_id: str | None = "xethub_default",
        token_folder: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(mount_tmp_dir=False, **kwargs)
        self.token_task_id = token_task_id
        self.xethub_conn_id = xethub_conn_id
        self.token_folder = token_folder

    def execute(self, context: Any) -> Any:
        # Only the user that owns the file can read it, and root.
        self.user = self.user or f"{os.getuid()}:{os.getgid()}"
        token = context["ti"].xcom_pull(task_ids=self.token_task_id)
        with XetHubConnection(self.xethub_conn_id).hand_over(token, self.token_folder) as path:
            # The folder, not the file: a mounted file would stay the first one when the next token replaces it.
            mount = Mount("/run/xethub", str(path.parent), type="bind", read_only=True)
            self.mounts = [*self.mounts, mount]
            printed = super().execute(context)
        return json.loads(printed) if printed else None
