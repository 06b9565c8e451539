"""The link "Open on the Hub" of every operator and sensor."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

log = logging.getLogger(__name__)


class XetHubLink(BaseOperatorLink):
    """Open what the task did on the Hub: its commit, pull request, file or folder.

    Airflow asks for the address on the worker when the task ends, defers or fails, and keeps it as the XCom
    ``_link_XetHubLink``; the API server only reads it. It is made of the connection's endpoint and the operator's
    ``hub_page`` (:class:`~airflow_provider_xethub.xet.hub.pages.HubPage`), so it has no credential in it. Without a
    connection on that worker, or before the repository is known, there is no address.
    """

    name = "Open on the Hub"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the URL, or an empty text; never an error, which Airflow 3.0 would fail the task for."""
        try:
            page: Any = getattr(operator, "hub_page", None)
            endpoint = operator.hook.endpoint if page is not None else None  # type: ignore[attr-defined]
            return f"{endpoint}{page.path}" if endpoint else ""
        except Exception as error:
            log.debug("No link to the Hub: %s", type(error).__name__)
            return ""
