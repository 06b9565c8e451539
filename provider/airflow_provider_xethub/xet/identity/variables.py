"""An ID token in an environment variable, as CI systems provide it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from airflow_provider_xethub.exceptions import XetIdentityError


class VariableIdentity:
    """The ID token in an environment variable, read anew each time.

    :param variable: its name, from the administrator's list: see :func:`choose`.
    """

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self.name = f"variable {variable}"

    def id_token(self, audience: str) -> str:  # noqa: ARG002 - who sets the variable chooses the audience
        """Return the value of the variable.

        :raises XetIdentityError: it is not set.
        """
        value = os.environ.get(self._variable)
        if value is None:
            raise XetIdentityError(
                f"The identity variable {self._variable} is not set in this process. Have your CI or deployment set it "
                "to an ID token, for the process that runs the task."
            )
        return value


def choose(named: str, allowed: Sequence[str]) -> VariableIdentity:
    """Return the identity of a variable that a connection names, if the administrator allows it.

    :param named: name in the connection.
    :param allowed: names in the administrator's list.
    :raises XetIdentityError: it is not in the list.
    """
    if named not in allowed:
        raise XetIdentityError(
            f"The identity variable {named!r:.200} is not allowed. Ask the administrator to add it to [xethub] "
            "identity_variables, or name one that is listed there."
        )
    return VariableIdentity(named)
