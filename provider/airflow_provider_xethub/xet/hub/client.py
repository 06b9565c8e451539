"""Request Xet tokens, files and commits of a repository from the Hub.

All requests go through one :class:`~airflow_provider_xethub.xet.hub.session.HubSession`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urljoin

import requests
import tenacity

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetIdentityError,
    XetIdentityUnavailableError,
    XetInputError,
    XetPublisherError,
    XetRateLimitError,
    XetResponseError,
    XetServerError,
    XetTokenFormatError,
)
from airflow_provider_xethub.xet import answers, tracing, urls
from airflow_provider_xethub.xet.hub import errors as hub_errors
from airflow_provider_xethub.xet.hub import resources, token_exchange, tree_routes
from airflow_provider_xethub.xet.hub.exchanged_tokens import ExchangedTokens
from airflow_provider_xethub.xet.hub.resources import Resource
from airflow_provider_xethub.xet.hub.session import HubSession
from airflow_provider_xethub.xet.hub.token_exchange import ExchangedToken
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.identity.jwt import IdToken
from airflow_provider_xethub.xet.identity.sources import Identity
from airflow_provider_xethub.xet.message_text import duration, uri_in
from airflow_provider_xethub.xet.network import bounded_answers
from airflow_provider_xethub.xet.network import errors as network_errors
from airflow_provider_xethub.xet.network.bounded_answers import TooLargeError
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.process import stop
from airflow_provider_xethub.xet.records import XetCommit, XetFile
from airflow_provider_xethub.xet.redaction import Secrets
from airflow_provider_xethub.xet.repo import Repo, Scope
from airflow_provider_xethub.xet.token import XetToken, parse_answer

DEFAULT_TIMEOUT = 30.0
MAX_PATHS = 1000
"""Paths in one metadata request."""

_MAX_KEPT = 50_000
"""Entries of a listing that are kept in memory."""

MAX_TRIES = 7
FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
"""Seconds between two attempts of a request; the first delay doubles each time."""

RETRY_BUDGET = 60.0
"""Seconds after its first attempt within which a request is repeated."""

_READING_POSTS = ("/paths-info", "/preupload/", "/validate-yaml")
"""Parts of the paths of requests that change nothing although they are not GET."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Hub:
    """Send requests to a Hub with a credential.

    :param endpoint: URL of the Hub, without a trailing slash.
    :param hub_token: the Hub token; ``None`` for public repositories.
    :param credential: name of the credential in messages, such as ``connection 'xethub_default'``.
    :param conn_id: Airflow connection ID, for the tokens that are fetched.
    :param timeout: seconds to wait for a response.
    :param network: CA bundle and proxy. ``None``: the settings of the environment.
    :param headers: extra headers for every request to the Hub.
    :param identity: the identity of a keyless connection, in place of ``hub_token``.
    :param identity_user: name of the user whose gated repositories it is for, in place of each repository.
    :param on_secret: called with each ID token and each exchanged token, to mask it in logs.
    :ivar exchanged: the tokens of a keyless connection; ``None`` for any other.
    :ivar retries_enabled: ``False`` for a caller that schedules its own retries: then each request is sent once.
    """

    def __init__(
        self,
        endpoint: str = urls.DEFAULT_ENDPOINT,
        hub_token: str | None = None,
        *,
        credential: str = "the caller",
        conn_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        network: Network | None = None,
        headers: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        identity_user: str | None = None,
        on_secret: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.credential = credential
        self._conn_id = conn_id
        self.has_token = bool(hub_token)
        self.retries_enabled = True
        self._network = network or Network()
        self.secrets = Secrets(hub_token, headers, self._network.proxy)
        self._listed: tuple[Repo, list[Any]] | None = None
        self._keeps_listing = False
        self._on_secret = on_secret
        self.exchanged: ExchangedTokens | None = None
        if identity is not None:
            self.exchanged = ExchangedTokens(
                identity, endpoint, self._exchange, user=identity_user, on_secret=self._hide_and_mask
            )
        self.session = HubSession(
            endpoint,
            hub_token,
            timeout=timeout,
            network=self._network,
            headers=headers or {},
            secrets=self.secrets,
            exchanged=self.exchanged,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Hub with its credential cannot be pickled. Pickle the hook, or its connection ID.")

    def request(
        self,
        method: str,
        path: str,
        *,
        about: str,
        retry: bool = True,
        accept: Collection[int] = (),
        repo: Repo | None = None,
        anonymous: bool = False,
        check: Callable[[requests.Response], object] | None = None,
        **kwargs: Any,
    ) -> requests.Response:
        """Send a request and return its successful response.

        Refused connections, timeouts, 429 and 5xx are retried: at most :data:`MAX_TRIES` attempts within
        :data:`RETRY_BUDGET`. ``Retry-After`` and ``RateLimit`` determine the delays. Each retry is logged.

        :param about: what the request is for, for messages, such as ``the read token request for hf://a/b@main``.
        :param retry: ``False`` if a second identical request could do harm.
        :param accept: statuses that count as a success for this request.
        :param repo: the repository that it is about, if the path does not name it.
        :param anonymous: send no credential.
        :param check: raises if a successful response is damaged; it is then requested again like any other failure.
        :raises XetHubError: no response, or an unsuccessful one; see :mod:`airflow_provider_xethub.exceptions`.
        """
        refusal: XetPublisherError | None = None
        if anonymous:
            kwargs["auth"] = _without_credential
        elif self.exchanged is not None:
            resource = self.exchanged.of_url(path) if repo is None else self.exchanged.of_repo(repo)
            if repo is not None:
                kwargs["auth"] = self.session.authorise_for(repo)
            try:
                # Before the request, so that an exchange is repeated even where the request must not be.
                self.exchanged_token(resource)
            except XetPublisherError as error:
                if method != "GET" and _READING_POSTS[0] not in path:
                    raise
                # A public repository of somebody else has no publisher for this worker, and needs none.
                refusal, kwargs["auth"] = error, _without_credential

        def once() -> requests.Response:
            response = self._send(method, path, about, **kwargs)
            if refusal is not None and hub_errors.hides_repository(response.status_code, response.headers):
                raise refusal
            if not response.ok and response.status_code not in accept:
                raise self.response_error(response, about)
            if check is not None:
                check(response)
            return response

        return with_retries(once) if retry and self.retries_enabled else once()

    def _send(self, method: str, path: str, about: str, **kwargs: Any) -> requests.Response:
        with self.errors(about):
            response = self.session.request(method, path, **kwargs)
            if response.status_code == network_errors.PROXY_AUTHENTICATION_REQUIRED:
                raise network_errors.proxy_error(
                    response.status_code, about=about, service="Hub", url=self.endpoint, network=self._network
                )
            return response

    def response_error(self, response: Any, about: str) -> XetResponseError:
        """Return the error for an unsuccessful response.

        :param response: of ``requests``, or of the library of ``huggingface_hub``.
        :param about: what was requested.
        """
        return hub_errors.from_response(
            response.status_code,
            response.headers,
            response.content.decode("utf-8", "replace"),
            about=about,
            credential=self.credential,
            secrets=self.secrets,
            publisher=self._publisher(about),
            is_read=_is_read(response.request.method, str(response.request.url)),
        )

    def _publisher(self, about: str) -> str | None:
        """Return which trusted publisher a failed request of a keyless connection needs; ``None`` for another one."""
        if self.exchanged is None:
            return None
        try:
            return self.exchanged.advice(self.exchanged.of_repo(Repo.from_uri(uri_in(about))))
        except (XetIdentityError, XetInputError):
            return f"identity {self.exchanged.identity.name}"

    def exchanged_token(self, resource: Resource) -> str:
        """Return a token of a keyless connection for a resource, exchanged if need be, with retries.

        :raises XetIdentityError: there is no ID token, or the Hub issues no token for it.
        :raises XetHubError: see :meth:`request`.
        """
        if self.exchanged is None:
            raise XetInputError(f"{self.credential} is not a keyless connection.")
        return self.exchanged.get(resource, with_retries=with_retries if self.retries_enabled else _once)

    def token_of(self, repo_type: str, repo_id: str) -> str:
        """Return a token of a keyless connection for a repository, as :meth:`exchanged_token` does.

        :param repo_type: also ``kernel``, of which there is no :class:`Repo`.
        """
        return self.exchanged_token(resources.of_name(repo_type, repo_id))

    def _exchange(self, id_token: IdToken, resource: Resource) -> ExchangedToken:
        source = self.exchanged.identity.name if self.exchanged else ""
        return token_exchange.exchange(id_token, resource, self._send_id_token, self.response_error, source=source)

    def _send_id_token(self, about: str, body: dict[str, str]) -> requests.Response:
        network = self._network
        # A proxy would receive what is sent to http://127.0.0.1 in clear text.
        if not self.endpoint.lower().startswith("https://") and (network.proxy or not urls.is_loopback(self.endpoint)):
            raise XetIdentityError(
                f"{self.endpoint} is not https: no ID token is sent there. Use a Hub with https as the host of the "
                "connection. Only a Hub on this machine may do without, and without a proxy."
            )
        is_plain = self.endpoint.lower().startswith("http://")
        options: dict[str, Any] = {"proxies": {"http": None, "all": None}} if is_plain else {}
        return self._send(
            "POST", token_exchange.PATH, about, json=body, auth=_without_credential, allow_redirects=False, **options
        )

    def _hide_and_mask(self, secret: str) -> None:
        self.secrets.add(secret)
        self._on_secret(secret)

    @contextmanager
    def errors(self, about: str) -> Iterator[None]:
        """Turn exceptions of ``requests`` into this provider's errors."""
        try:
            yield
        except TooLargeError as error:
            raise hub_errors.unexpected_response(about, self.endpoint, str(error)) from None
        except requests.RequestException as error:
            # "from None": the message of the library may quote a proxy URL with its password.
            raise network_errors.from_exception(
                error, about=about, service="Hub", url=self.endpoint, network=self._network
            ) from None

    def xet_token(self, repo: Repo, scope: Scope, *, retry: bool = True) -> XetToken:
        """Fetch a Xet token: ``GET /api/{repo_type}s/{repo_id}/xet-{scope}-token/{revision}``.

        :param retry: as for :meth:`request`.
        :raises XetTokenFormatError: the response breaks the protocol.
        :raises XetHubError: see :meth:`request`.
        """
        about = f"the {scope} token request for {repo}"

        def check(response: requests.Response) -> None:
            # A token in the headers is complete without a body.
            if "X-Xet-Access-Token" not in response.headers:
                hub_errors.parse_json(response.headers, response.content, about=about, endpoint=self.endpoint)

        with tracing.operation("xethub.token", repo, scope=scope):
            response = self.request("GET", repo.token_path(scope), about=about, retry=retry, check=check)
            received_at = time.time()
            token = parse_answer(
                repo,
                scope,
                endpoint=self.endpoint,
                body=response.content.decode("utf-8", "replace"),
                headers=response.headers,
                received_at=received_at,
                conn_id=self._conn_id,
            )
            if self.secrets.are_in(token.cas_url):
                raise XetTokenFormatError(f"The response to {about} has a field 'casUrl' that repeats a secret.")
        self.secrets.add(token.access_token)
        return token

    def next_page(self, response: requests.Response, about: str) -> str:
        """Return the URL of the next page from the header ``Link``; empty after the last page.

        :raises XetProtocolError: the URL is not on the Hub.
        """
        link = response.links.get("next", {}).get("url")
        if link and urls.shown_origin(link, response.url) != urls.origin(self.endpoint):
            where = self.shown(urls.shown_origin(link, response.url))
            raise hub_errors.unexpected_response(about, self.endpoint, f"a next page on another server ({where})")
        return urljoin(response.url, link) if link else ""

    def json(self, method: str, path: str, *, about: str, **kwargs: Any) -> Any:
        """Send a request and return the JSON value of its response; see :meth:`request`."""
        return self._read(method, path, about=about, **kwargs)[1]

    def _read(self, method: str, path: str, *, about: str, **kwargs: Any) -> tuple[requests.Response, Any]:
        """Send a request and return its response with the JSON value, requested again if the response is damaged."""
        values: list[Any] = []

        def check(response: requests.Response) -> None:
            values[:] = [hub_errors.parse_json(response.headers, response.content, about=about, endpoint=self.endpoint)]

        response = self.request(method, path, about=about, check=check, **kwargs)
        return response, values[0]

    def shown(self, text: object) -> str:
        """Return a text from the Hub in a form that may be shown: short, and without any secret."""
        return hub_errors.shown(text, self.secrets)

    def whoami(self) -> dict[str, Any]:
        """Return the Hub's description of the credential (``GET /api/whoami-v2``)."""
        about = "the whoami request"
        return self._check(dict, self.json("GET", "/api/whoami-v2", about=about), about)

    def list_files(self, repo: Repo, path: str | None = None) -> list[XetFile]:
        """List all files of a repository, or those in the folder ``path``, sorted by path.

        :raises XetNotFoundError: the repository, the revision or the folder does not exist. A bucket has no folders, so
            that a folder without files is an empty list.
        """
        entries = self.tree(repo, path, recursive=True)
        return sorted(self._files(repo, entries, _about_tree(repo, path)), key=lambda file: file["path"])

    def tree(self, repo: Repo, path: str | None = None, *, recursive: bool, enough: int | None = None) -> list[Any]:
        """Return the Hub's entries for the files and folders of a repository, or of the folder ``path``.

        :param recursive: include the content of subfolders. A recursive listing of a bucket contains only files.
        :param enough: request no further page after this many entries. ``None``: request all pages.
        :raises XetNotFoundError: see :meth:`list_files`.
        """
        entries: list[Any] = []
        keep = enough is None
        for page in self.tree_pages(repo, path, recursive=recursive, keep=keep):
            entries += page
            if enough is not None and len(entries) >= enough:
                break
        return entries

    def tree_pages(
        self, repo: Repo, path: str | None = None, *, recursive: bool, keep: bool | None = None
    ) -> Iterator[list[Any]]:
        """Yield what :meth:`tree` returns, one response of the Hub at a time.

        :param keep: whether :meth:`listed_tree` may return it afterwards. ``None``: within :meth:`keeping_listing`.
        """
        keep = self._keeps_listing if keep is None else keep
        is_whole = keep and not path and recursive and COMMIT_ID.fullmatch(repo.revision)
        kept: list[Any] | None = [] if is_whole else None
        url, params = tree_routes.request(repo, path, recursive=recursive)
        for page in tracing.listing(repo, self.pages(url, params, _about_tree(repo, path))):
            entries = tree_routes.inside(repo, path, page)
            if kept is not None:
                kept += entries
                kept = kept if len(kept) <= _MAX_KEPT else None
            yield entries
        if kept is not None:
            self._listed = (repo, kept)

    @contextmanager
    def keeping_listing(self) -> Iterator[None]:
        """Let :meth:`listed_tree` return what is listed in this block page by page, too."""
        self._keeps_listing = True
        try:
            yield
        finally:
            self._keeps_listing = False

    def listed_tree(self, repo: Repo) -> list[Any] | None:
        """Return the entries of the whole listing of a commit, if that was the last listing; ``None`` otherwise.

        :param repo: the repository at a commit, which never changes.
        """
        known = self._listed
        return known[1] if known and known[0] == repo else None

    def pages(self, url: str, params: dict[str, str] | None, about: str) -> Iterator[list[Any]]:
        """Request a list page by page, following the header ``Link``.

        :raises XetProtocolError: a page is not a list, or the number of pages exceeds the limit.
        """
        seen: set[str] = set()
        empty = 0
        while url:
            if url in seen or bounded_answers.exceeds_page_limits(len(seen), empty):
                kind = "pages that link in a circle" if url in seen else "too many pages"
                raise hub_errors.unexpected_response(about, self.endpoint, kind)
            seen.add(url)
            response, page = self._read("GET", url, about=about, params=params)
            empty = 0 if page else empty + 1
            yield self._check(list, page, about)
            url, params = self.next_page(response, about), None

    def get_files(self, repo: Repo, paths: Sequence[str]) -> list[XetFile]:
        """Return the records of those ``paths`` that exist and are files, in the given order.

        :raises XetNotFoundError: the repository or the revision does not exist.
        """
        about = _about_paths(repo, paths)
        found = {file["path"]: file for file in self._files(repo, self.paths_info(repo, paths), about)}
        return [found[path] for path in paths if path in found]

    def existing_paths(self, repo: Repo, paths: Sequence[str]) -> set[str]:
        """Return those ``paths`` that exist; folders end with a slash."""
        with self.reading(_about_paths(repo, paths)):
            entries = [answers.mapping(each, "an entry") for each in self.paths_info(repo, paths)]
            return {
                answers.path(entry.get("path")) + ("/" if entry.get("type") == "directory" else "") for entry in entries
            }

    def paths_info(self, repo: Repo, paths: Sequence[str], *, expand: bool = False) -> list[Any]:
        """Return the Hub's entries for those ``paths`` that exist; in a repository, also folders.

        :param expand: include the commit of the last change, which takes the Hub longer.
        """
        about = _about_paths(repo, paths)
        url = f"{repo.api_path}/paths-info" + ("" if repo.is_bucket else f"/{repo.quoted_revision}")
        entries: list[Any] = []
        for start in range(0, len(paths), MAX_PATHS):
            body = {"paths": list(paths[start : start + MAX_PATHS]), "expand": expand}
            entries += self._check(list, self.json("POST", url, about=about, json=body), about)
        return entries

    def reading(self, about: str) -> AbstractContextManager[None]:
        """Turn any error that reading the content of a response raises into :class:`XetProtocolError`."""
        return hub_errors.reading(about, self.endpoint)

    def _check(self, kind: type[T], value: object, about: str) -> T:
        if not isinstance(value, kind):
            expected = "an object" if kind is dict else "a list"
            raise hub_errors.unexpected_response(about, self.endpoint, f"JSON that is not {expected}")
        return value

    def _files(self, repo: Repo, entries: Sequence[Any], about: str) -> list[XetFile]:
        """Read the entries of a tree or paths-info response, without folders."""
        with self.reading(about):
            return [answers.file_record(entry, repo.uri) for entry in entries if answers.kind(entry) == "file"]

    def latest_commits(self, repo: Repo, limit: int = 1) -> list[XetCommit]:
        """Return the newest commits of the revision, newest first.

        :raises XetInputError: the repository is a bucket, which has no commits.
        :raises XetNotFoundError: the repository or the revision does not exist.
        """
        if repo.is_bucket:
            raise XetInputError(f"{repo} is a bucket: it has no commits.")
        about = f"the commits of {repo}"
        path = f"{repo.api_path}/commits/{repo.quoted_revision}"
        commits = self.json("GET", path, about=about, params={"limit": str(limit)})
        with self.reading(about):
            return [self.listed_commit(repo, each) for each in answers.sequence(commits, "commits")[:limit]]

    def read_inline(self, repo: Repo, path: str) -> bytes:
        """Return the content of a file that the repository stores inline (``GET …/resolve/{revision}/{path}``).

        :raises XetNotFoundError: the repository, the revision or the path does not exist.
        """
        url = f"{repo.web_path}/resolve/{repo.quoted_revision}/{quote(path)}"
        return self.request("GET", url, about=f"the download of {path} from {repo}").content

    def listed_commit(self, repo: Repo, entry: object) -> XetCommit:
        """Return the record of a commit that the Hub lists. Call this within :meth:`reading`."""
        commit = answers.mapping(entry, "a commit")
        return self.commit_record(repo, commit.get("id"), commit.get("title"), commit.get("message"))

    def commit_record(self, repo: Repo, oid: object, title: object, description: object) -> XetCommit:
        """Build the record of a commit. Call this within :meth:`reading`."""
        checked = answers.commit_id(oid)
        return {
            "oid": checked,
            "url": f"{self.endpoint}{repo.web_path}/commit/{checked}",
            "repo": repo.uri,
            "title": answers.title(title),
            "description": answers.text(description),
        }


def with_retries(once: Callable[[], T], *, also: Callable[[BaseException], bool] = lambda _: False) -> T:
    """Call ``once`` until it succeeds, its error is final, or the attempts or the delay budget are exhausted.

    :param also: returns whether another error is worth a retry.
    """

    def delay(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        hint = getattr(error, "retry_after", None)
        # A hint beyond the budget ends the attempts at once (stop_before_delay); the task's own retry takes over.
        if hint is not None:
            return float(hint)
        is_conflict = error is not None and also(error)
        return next_delay(state.attempt_number, state.seconds_since_start or 0.0, is_conflict=is_conflict)

    def is_worth_retrying(error: BaseException) -> bool:
        temporary = (XetConnectionError, XetIdentityUnavailableError, XetRateLimitError, XetServerError)
        if isinstance(error, temporary) and error.retryable:
            return True
        return also(error)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_worth_retrying),
        stop=tenacity.stop_after_attempt(MAX_TRIES) | tenacity.stop_before_delay(RETRY_BUDGET),
        wait=delay,
        before_sleep=_log_retry,
        sleep=stop.sleep,
        reraise=True,
    )(once)


def next_delay(attempt: int, elapsed: float, *, is_conflict: bool = False) -> float:
    """Return how many seconds to wait after an attempt that failed, so that the attempts use up the budget.

    :param attempt: number of the attempt; the first is 1.
    :param elapsed: seconds since the first attempt began.
    :param is_conflict: whether others send requests at the same time, which must not meet again.
    """
    longest = min(FIRST_DELAY * 2.0 ** (attempt - 1), LONGEST_DELAY, max(0.0, RETRY_BUDGET - elapsed))
    return longest * random.uniform(0.0 if is_conflict else 0.75, 1.0)  # noqa: S311 - no secret depends on it


def _log_retry(state: tenacity.RetryCallState) -> None:
    tracing.count_retry()
    error = state.outcome.exception() if state.outcome else None
    happened = str(error).partition(". ")[0].removesuffix(".")
    wait = duration(state.upcoming_sleep)
    # The part that changes comes first, because Airflow's page cuts long lines off.
    log.warning("Retrying in %s (%d of %d): %s.", wait, state.attempt_number, MAX_TRIES - 1, happened)


def _once(once: Callable[[], T]) -> T:
    return once()


def _is_read(method: str | None, url: str) -> bool:
    """Return whether a request changes nothing."""
    return method in ("GET", "HEAD") or any(each in url for each in _READING_POSTS)


def _without_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authorise a request by nothing: neither by a token, nor by a credential from ~/.netrc."""
    return request


def _about_tree(repo: Repo, path: str | None) -> str:
    return f"the listing of {path or 'all files'} in {repo}"


def _about_paths(repo: Repo, paths: Sequence[str]) -> str:
    return f"the metadata request for {', '.join(paths[:3])}{' …' if len(paths) > 3 else ''} in {repo}"
