"""What crosses to another process: errors as what they are, a hook as the id of its connection, credentials never."""

from __future__ import annotations

import copy
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.errors import fail_without_retry

KINDS = [
    kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, exceptions.XetHubError)
]


def fail(kind: type[Exception], options: dict[str, object]) -> None:
    with fail_without_retry():
        raise kind("what happened", **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_an_error_stays_what_it_is_when_it_is_copied_or_pickled(kind, by):
    answered = issubclass(kind, exceptions.XetResponseError)
    options = {"service": "CAS", "status": 418, "retry_after": 7.0} if answered else {}
    with pytest.raises(kind) as caught:
        fail(kind, options)
    error = by(caught.value)
    assert type(error) is type(caught.value)
    assert isinstance(error, AirflowFailException) is not kind.retryable
    assert str(error) == "what happened"
    assert {name: getattr(error, name) for name in options} == options
