"""What each role of Airflow may do with what this provider stores, by Airflow's own default: the simple auth manager.

docs/security.md says the same in words, for people who decide about roles.
"""

from __future__ import annotations

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

ROLES = [None, "viewer", "user", "op", "admin"]


def may(role):
    manager, user = SimpleAuthManager(), SimpleAuthManagerUser(username="ana", role=role)

    def dag(entity, method):
        return manager.is_authorized_dag(method=method, access_entity=entity, user=user)

    return {
        "read XComs": dag(DagAccessEntity.XCOM, "GET"),
        "edit XComs": dag(DagAccessEntity.XCOM, "PUT"),
        "read logs": dag(DagAccessEntity.TASK_LOGS, "GET"),
        "trigger DAGs": dag(DagAccessEntity.RUN, "POST"),
        "read the configuration": manager.is_authorized_configuration(method="GET", user=user),
        "read connections": manager.is_authorized_connection(method="GET", user=user),
        "edit connections": manager.is_authorized_connection(method="PUT", user=user),
        "create asset events": manager.is_authorized_asset(method="POST", user=user),
    }


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (None, set()),
        ("viewer", {"read XComs", "read logs", "read the configuration"}),
        ("user", {"read XComs", "read logs", "read the configuration", "edit XComs", "trigger DAGs"}),
    ],
)
def test_neither_a_viewer_nor_a_user_sees_or_edits_connections(role, expected):
    assert {name for name, allowed in may(role).items() if allowed} == expected


@pytest.mark.parametrize("role", ["op", "admin"])
def test_op_and_admin_may_do_all_of_it(role):
    assert all(may(role).values())
