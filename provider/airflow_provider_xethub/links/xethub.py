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

    Airflow calls :meth:`get_link` on the worker when the task ends, defers or fails, and stores the URL as the XCom
    ``_link_XetHubLink``, which the API server reads. The URL consists of the connection's endpoint and the operator's
    ``hub_page`` (:class:`~airflow_provider_xethub.xet.hub.pages.HubPage`), so it contains no credential. It is empty
    without a connection on that worker, or before the repository is known.
    """

    name = "Open on the Hub"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the URL, or an empty string. Never raise, because Airflow 3.0 would fail the task."""
        try:
            page: Any = getattr(operator, "hub_page", None)
            endpoint = operator.hook.endpoint if page is not None else None  # type: ignore[attr-defined]
            return f"{endpoint}{page.path}" if endpoint else ""
        except Exception as error:
            log.debug("No link to the Hub: %s", type(error).__name__)
            return ""
