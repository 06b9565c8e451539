"""Events from a trigger to its task: an error arrives as it was sent, and wrong details of it do not hide it."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetRateLimitError
from airflow_provider_xethub.hooks import events
from airflow_provider_xethub.xet.answers import is_storable


def arrived(event):
    with pytest.raises(XetRateLimitError) as raised:
        events.value_of(event)
    return raised.value


def test_an_error_arrives_as_it_was_sent():
    error = arrived(events.failed(XetRateLimitError("slowly", service="CAS", status=429, retry_after=7.5)))
    assert (str(error), error.service, error.status, error.retry_after) == ("slowly", "CAS", 429, 7.5)


@pytest.mark.parametrize(
    "wrong", ["\ud800", "7", None, [], {}, float("nan"), float("inf"), pytest.param(10**400, id="huge")]
)
def test_wrong_details_of_an_error_do_not_hide_it(wrong):
    event = {**events.failed(XetRateLimitError("slowly")), "http_status": wrong, "retry_after": wrong, "service": wrong}
    error = arrived(event)
    assert (str(error), error.status, error.retry_after) == ("slowly", None, None)
    assert is_storable(events.failed(error))
