"""Create, change and delete repositories and buckets; safe to repeat.

Each function reads first, and then lets ``huggingface_hub`` change what differs. So a Hub token that may not create or
change anything works where nothing is to be done, and a wrong name is an error before anything happened.

Source: the routes and parameters of ``huggingface_hub`` 2.4. A ``409`` for a repository that another request creates at
this moment has no ``url`` (huggingface_hub pull request 3279), so its body is not read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_xethub.exceptions import XetBusyError, XetConflictError, XetInputError, XetNotFoundError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.records import XetRepo
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.api.calls import ApiCalls

Visibility = Literal["private", "public", "protected"]
Gated = Literal["auto", "manual", False]
SpaceSdk = Literal["docker", "gradio", "static", "streamlit"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A repository that exists.

    :param repo_id: its current id, which differs from the requested one if it was renamed.
    :param is_private: whether it is private; the Hub does not say whether a Space is public or protected.
    :param gated: ``None`` for a bucket and a Space, which cannot be gated.
    """

    repo_id: str
    is_private: bool
    gated: Gated | None

    @property
    def visibility(self) -> Literal["private", "public"]:
        """``private``, or ``public``, which also stands for a protected Space."""
        return "private" if self.is_private else "public"

    def is_visible_as(self, visibility: Visibility) -> bool:
        """Return whether it may have this visibility."""
        return (visibility == "private") == self.is_private


def find(hub: Hub, repo: Repo) -> Found | None:
    """Return the repository, or ``None`` if it does not exist, or this credential may not see it.

    :raises XetHubError: the Hub did not say whether it exists.
    """
    about = f"the description of {repo.uri}"
    fields = ["private"] if repo.repo_type in ("space", "bucket") else ["private", "gated"]
    params = None if repo.is_bucket else {"expand[]": fields}
    try:
        answer = hub.json("GET", repo.api_path, about=about, params=params)
    except XetNotFoundError:
        return None
    with hub.reading(about):
        described = answers.mapping(answer, "JSON")
        gated = described.get("gated", False) if "gated" in fields else None
        if gated not in (None, False, "auto", "manual"):
            raise answers.WrongAnswerError("'gated' that is not false, auto or manual")
        return Found(answers.identifier(described.get("id"), "'id'"), described.get("private") is True, gated)


def require(hub: Hub, repo: Repo) -> Found:
    """Return a repository that must exist.

    :raises XetNotFoundError: it does not exist, or this credential may not see it.
    """
    if found := find(hub, repo):
        return found
    raise XetNotFoundError(
        f"{_named(repo)} does not exist, or {hub.credential} has no access. Check repo_id and repo_type.", status=404
    )


def create(
    calls: ApiCalls,
    repo: Repo,
    *,
    visibility: Visibility | None = None,
    exist_ok: bool = True,
    space_sdk: SpaceSdk | None = None,
) -> XetRepo:
    """Create a repository or bucket, or return the one that exists.

    :param visibility: ``None``: private if it is created, and either if it exists.
    :param exist_ok: whether it may exist already.
    :param space_sdk: required for a Space.
    :raises XetInputError: an argument does not fit the type of the repository. Nothing was sent.
    :raises XetConflictError: it exists, and ``exist_ok`` is false, its visibility is another one, or this credential
        may not see it.
    """
    check_settings(repo, visibility=visibility)
    if (repo.repo_type == "space") != (space_sdk is not None):
        needed = "needs space_sdk" if repo.repo_type == "space" else "is not a Space: leave out space_sdk"
        raise XetInputError(f"{_named(repo)} {needed}.")
    if found := find(calls.hub, repo):
        return _existing(calls.hub, repo, found, visibility, exist_ok=exist_ok)
    attempts: list[int] = []

    def send(api: Any) -> None:
        attempts.append(1)
        if repo.is_bucket:
            api.create_bucket(repo.repo_id, visibility=visibility or "private")
            return
        api.create_repo(repo.repo_id, repo_type=repo.repo_type, visibility=visibility or "private", space_sdk=space_sdk)

    def is_done() -> bool:
        now = find(calls.hub, repo)
        return now is not None and now.is_visible_as(visibility or "private")

    try:
        calls.change(f"the creation of {_named(repo)}", send, is_done)
    except XetConflictError as error:
        # Another task was faster, or the response to an earlier attempt was lost.
        if found := find(calls.hub, repo):
            return _existing(calls.hub, repo, found, visibility, exist_ok=exist_ok or len(attempts) > 1)
        # Someone else may be creating it at this moment.
        raise XetBusyError(
            f"{_named(repo)} cannot be created: the name is taken. Choose another repo_id, or let the task retry: "
            f"{calls.hub.credential} has no access to what has the name. {error}",
            status=error.status,
        ) from None
    log.info("Created %s (%s): %s", _named(repo), visibility or "private", _url(calls.hub, repo))
    gated: Gated | None = False if repo.repo_type in ("model", "dataset") else None
    return {**_record(calls.hub, repo, visibility or "private", gated), "created": True}


def create_missing(calls: ApiCalls, repo: Repo) -> None:
    """Create a private repository or bucket if there is none, so that something can be published to it.

    :raises XetInputError: it is missing, and is a Space, or its revision would be missing as well. Nothing was created.
    """
    if find(calls.hub, repo) is not None:
        return
    if repo.repo_type == "space":
        raise XetInputError(
            f"{_named(repo)} does not exist, and create_repo cannot create a Space, which needs an SDK. Create it with "
            "XetCreateRepoOperator(space_sdk=…)."
        )
    if repo.revision != DEFAULT_REVISION:
        raise XetInputError(
            f"{_named(repo)} does not exist, and create_repo creates only main, not {repo.revision}. Create the "
            "repository with XetCreateRepoOperator and the branch with XetCreateBranchOperator."
        )
    create(calls, repo)


def delete(calls: ApiCalls, repo: Repo, *, confirm: str, missing_ok: bool = False) -> bool:
    """Delete a repository or bucket, with all of its files and its history. It cannot be restored.

    :param confirm: must be the id of the repository, letter by letter.
    :param missing_ok: whether it may be missing, also because the credential has no access.
    :returns: whether it existed.
    :raises XetInputError: ``confirm`` is not its id. Nothing was sent.
    :raises XetConflictError: a repository of another name would be deleted, because this one was renamed.
    :raises XetNotFoundError: it does not exist, and ``missing_ok`` is false.
    :raises XetServerError: it still exists afterwards.
    """
    if confirm != repo.repo_id:
        raise XetInputError(
            f"confirm is {confirm!r:.120}, but {_named(repo)} would be deleted. Nothing was deleted. Write its repo_id "
            "into confirm if that is intended."
        )
    found = find(calls.hub, repo) if missing_ok else require(calls.hub, repo)
    if found is None:
        log.info("%s does not exist, so there is nothing to delete.", _named(repo))
        return False
    if found.repo_id != repo.repo_id:
        raise XetConflictError(
            f"{repo.repo_id} is now called {found.repo_id}. Nothing was deleted. Write the current name into repo_id "
            "and confirm if that one is to be deleted."
        )

    def send(api: Any) -> None:
        if repo.is_bucket:
            api.delete_bucket(repo.repo_id)
        else:
            api.delete_repo(repo.repo_id, repo_type=repo.repo_type)

    try:
        calls.change(f"the deletion of {_named(repo)}", send, lambda: find(calls.hub, repo) is None)
    except XetNotFoundError:
        # It existed a moment ago: the response to an earlier attempt was lost, or someone else deleted it.
        if find(calls.hub, repo) is not None:
            raise
    log.info("Deleted %s.", _named(repo))
    return True


def update(calls: ApiCalls, repo: Repo, *, visibility: Visibility | None = None, gated: Gated | None = None) -> XetRepo:
    """Change who can see a repository or bucket, and whether its files are gated.

    :param visibility, gated: ``None``: as it is.
    :raises XetInputError: both are ``None``, or the type of the repository has no such setting. Nothing was sent.
    :raises XetNotFoundError: it does not exist.
    """
    if visibility is None and gated is None:
        raise XetInputError(f"Nothing to change in {_named(repo)}: give visibility or gated.")
    check_settings(repo, visibility=visibility, gated=gated)
    found = require(calls.hub, repo)
    settings: dict[str, Any] = {}
    # The Hub does not say whether a Space is public or protected, so this is set even if it may be right already.
    is_unknown = repo.repo_type == "space" and visibility in ("public", "protected")
    if visibility is not None and (is_unknown or not found.is_visible_as(visibility)):
        settings["visibility"] = visibility
    if gated is not None and gated != found.gated:
        settings["gated"] = gated
    record = _record(calls.hub, repo, visibility or found.visibility, found.gated if gated is None else gated)
    if not settings:
        log.info("Nothing to change: %s has these settings already.", _named(repo))
        return record

    def send(api: Any) -> None:
        if repo.is_bucket:
            api.update_bucket_settings(repo.repo_id, private=visibility == "private")
        else:
            api.update_repo_settings(repo.repo_id, repo_type=repo.repo_type, **settings)

    def is_done() -> bool:
        now = require(calls.hub, repo)
        return (visibility is None or now.is_visible_as(visibility)) and gated in (None, now.gated)

    calls.change(f"the change of the settings of {_named(repo)}", send, is_done)
    log.info("%s is now %s.", _named(repo), _shown(record))
    return {**record, "changed": True}


def check_settings(repo: Repo, *, visibility: Visibility | None = None, gated: Gated | None = None) -> None:
    """Refuse settings that the type of the repository does not have.

    :raises XetInputError: the message names the setting.
    """
    if visibility == "protected" and repo.repo_type != "space":
        raise XetInputError(f"{_named(repo)} cannot be protected: only a Space can. Use 'private' or 'public'.")
    if gated is not None and repo.repo_type not in ("model", "dataset"):
        raise XetInputError(f"{_named(repo)} cannot be gated: only models and datasets can. Leave out gated.")


def _existing(hub: Hub, repo: Repo, found: Found, visibility: Visibility | None, *, exist_ok: bool) -> XetRepo:
    if not exist_ok:
        raise XetConflictError(
            f"{_named(repo)} exists already. Set exist_ok=True to use it, or choose another repo_id."
        )
    if visibility is not None and not found.is_visible_as(visibility):
        raise XetConflictError(
            f"{_named(repo)} exists already and is {found.visibility}, not {visibility}. Change it with "
            "XetUpdateRepoOperator, or leave out visibility to use it as it is."
        )
    renamed = f" It is now called {found.repo_id}." if found.repo_id.lower() != repo.repo_id.lower() else ""
    log.info("%s exists already (%s).%s", _named(repo), found.visibility, renamed)
    return _record(hub, repo, visibility or found.visibility, found.gated)


def _record(hub: Hub, repo: Repo, visibility: Visibility, gated: Gated | None) -> XetRepo:
    return {
        "repo": repo.uri,
        "url": _url(hub, repo),
        "visibility": visibility,
        "gated": gated,
        "created": False,
        "changed": False,
    }


def _url(hub: Hub, repo: Repo) -> str:
    return f"{hub.endpoint}{repo.web_path}"


def _shown(record: XetRepo) -> str:
    gated = {None: "", False: ", not gated"}.get(record["gated"], f", gated ({record['gated']})")  # type: ignore[arg-type]
    return f"{record['visibility']}{gated}"


def _named(repo: Repo) -> str:
    """Return a name for messages, without a revision: these functions work on the whole repository."""
    return f"{repo.repo_type} {repo.repo_id}"
