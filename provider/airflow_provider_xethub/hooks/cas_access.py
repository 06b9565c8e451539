"""How a task reaches CAS: with a fresh token and its connection's network, and once more after a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_xethub.exceptions import XetHubError, XetStalledError, XetTokenExpiredError, XetUnauthorizedError
from airflow_provider_xethub.hooks.connections import configuration, connection
from airflow_provider_xethub.xet import tracing

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.connections.connection import LazyConnection
    from airflow_provider_xethub.hooks.tokens.tokens import Tokens, TokenUse
    from airflow_provider_xethub.xet.cas.limits import TransferLimits
    from airflow_provider_xethub.xet.cas.session import CasAccess, WithCasAccess
    from airflow_provider_xethub.xet.token import XetToken

T = TypeVar("T")


class CasConnector:
    """Gives transfers access to CAS.

    :param lazy: the connection whose network and timeouts apply, where this worker has it.
    :param tokens: the tokens of the hook.
    :param log: the hook's logger.
    """

    def __init__(self, lazy: LazyConnection, tokens: Tokens, log: Any) -> None:
        self._lazy = lazy
        self._tokens = tokens
        self._log = log
        self._resident: int | None = None

    def limits(self, of_task: TransferLimits | None = None) -> TransferLimits:
        """Return the limits of a transfer: those of the task, and those of the configuration for what it leaves open.

        A task gets no more requests and no more bandwidth than its connection allows.

        :raises XetInputError: no transfer of this process could keep them, or a field of the connection is wrong.
        """
        from airflow_provider_xethub.xet.cas.limits import TransferLimits
        from airflow_provider_xethub.xet.process import memory

        found = of_task or TransferLimits()
        if found.memory is None:
            found = replace(found, memory=configuration.transfer_memory())
        if self._resident is None:
            # Only at the beginning: what the first transfer of a task leaves must not stop the next one.
            self._resident = memory.resident()
        found.check_memory(self._resident)
        if self._lazy.found:
            concurrency, bandwidth, min_rate = connection.transfer_limits(self._lazy.found)
            found = replace(
                found,
                concurrency=_smaller(found.concurrency, concurrency),
                bandwidth=_smaller(found.bandwidth, bandwidth),
                min_rate=min_rate if found.min_rate is None else found.min_rate,
            )
        found.check_rates()
        return found

    def factory(self, limits: TransferLimits | None = None) -> Callable[[XetToken], CasAccess]:
        """Return what turns a token into access: with this connection's network, timeouts and Hub.

        :param limits: those of the task; ``None`` for the defaults.
        :raises XetInputError: a field of the connection is wrong.
        """
        from airflow_provider_xethub.xet.cas import cache, token_relay
        from airflow_provider_xethub.xet.cas.session import CasAccess
        from airflow_provider_xethub.xet.network import bandwidth as bandwidth_proxy
        from airflow_provider_xethub.xet.progress import STALL_TIMEOUT

        lazy, tokens = self._lazy, self._tokens
        found = lazy.found
        stall_timeout = connection.seconds(found, "stall_timeout", STALL_TIMEOUT) if found else STALL_TIMEOUT
        network = lazy.network
        folder, telemetry = configuration.cache_folder(), configuration.telemetry()
        cache_folder = cache.folder(folder)
        own_limits = self.limits(limits)
        if own_limits.bandwidth:
            bandwidth_proxy.check(network.proxy)

        def access(token: XetToken) -> CasAccess:
            options = CasAccess(
                token,
                stall_timeout=stall_timeout,
                network=network,
                cache_folder=cache_folder,
                telemetry=telemetry,
                limits=own_limits,
            )
            if not tokens.may_replace(token.conn_id):
                return options
            hub = lazy.hub
            refresh = token_relay.Refresh(lambda: hub.xet_token(token.repo, token.scope))
            return replace(options, refresh=refresh, secrets=hub.secrets)

        return access

    def bind(self, use: TokenUse, limits: TransferLimits | None = None) -> WithCasAccess:
        """Return what runs a transfer with a fresh token, and once more if CAS rejects it or the transfer stalls.

        :param use: the token's use, which is the same for each transfer.
        :param limits: as for :meth:`factory`.
        """
        tokens = self._tokens
        self.limits(limits)  # checked here, before anything is done

        def run(work: Callable[[CasAccess], T]) -> T:
            access = self.factory(limits)
            # A write token may read; but the client and a second try then ask the Hub for a read token.
            token = replace(tokens.fresh(use), scope=use.scope)
            try:
                return work(access(token))
            except XetStalledError as error:
                self._log.warning("%s Trying once more.", error)
                tracing.count_retry()
                return work(access(replace(tokens.fresh(use), scope=use.scope)))
            except XetTokenExpiredError as error:
                raise self._without_connection(token, error) from error.__cause__
            except XetUnauthorizedError as error:
                # The client refreshes a token by the clock only, never after a 401.
                if error.service != "CAS":
                    raise
                if not tokens.may_replace(token.conn_id):
                    raise self._without_connection(token, error) from error.__cause__
                self._log.warning("CAS rejected the token for %s; trying once more with a new one.", token.repo)
                tracing.count_retry()
                return work(access(tokens.fetch(token.repo, token.scope)))

        return run

    def _without_connection(self, token: XetToken, error: XetHubError) -> XetHubError:
        is_other = token.conn_id not in (None, self._lazy.conn_id)
        return error if is_other else connection.needed(self._lazy.conn_id, error)


def _smaller(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given) if given else None
