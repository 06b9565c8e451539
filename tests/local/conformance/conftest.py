"""The local Hub over plain HTTP, and what contract tests ask it about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import requests

from support.hub_facts import FACTS
from support.hub_wire import Wire
from support.stored_content import Upload

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.repo import Repo
    from xethub_local.server import LocalHub

_DIFFERS = {fact.test: fact.differs for fact in FACTS if fact.differs}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests fail whose fact the local Hub does not follow on purpose, and only fail."""
    for item in items:
        reason = _DIFFERS.get(item.name.partition("[")[0])
        if reason and item.path.parent.name == "conformance":
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        one.trust_env = False
        yield one


@pytest.fixture
def wire(hub: LocalHub, repo: Repo, session: requests.Session) -> Iterator[Wire]:
    """The local Hub, and an empty public dataset repository; users that a test adds are removed after it."""
    known = {identity.user for identity in hub.access.identities()}
    yield Wire(hub, repo, session)
    for user in {identity.user for identity in hub.access.identities()} - known:
        hub.access.revoke(user)


@pytest.fixture
def of(wire: Wire, make_repo: Callable[..., Repo]) -> Callable[..., Wire]:
    """Returns the same for another new repository: ``of("model", private=True)``."""

    def make(repo_type: str = "dataset", **options: bool) -> Wire:
        return Wire(wire.hub, make_repo(repo_type, **options), wire.session)

    return make


@pytest.fixture
def bucket(of: Callable[..., Wire]) -> Wire:
    """An empty public bucket."""
    return of("bucket")


@pytest.fixture
def made() -> Upload:
    """A file of three chunks that nobody uploaded."""
    return Upload([os.urandom(2000 + n) for n in range(3)])


@pytest.fixture
def stored(wire: Wire, made: Upload) -> Upload:
    """The same, uploaded and committed as ``d/a.bin``."""
    wire.upload(made)
    assert wire.put_large("d/a.bin", made).status_code == 200
    return made
