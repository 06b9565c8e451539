"""Users, Hub tokens, Xet tokens and data URLs."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from xethub_local.metadata.repositories import Repositories
from xethub_local.store.access import Access, AccessError, Identity, load_signing_key
from xethub_local.store.database import Database

PUBLIC, PRIVATE = "datasets/acme/corpus", "models/acme/secret"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    repositories = Repositories(database)
    repositories.create(PUBLIC)
    repositories.create(PRIVATE, private=True)
    yield database
    database.close()


@pytest.fixture
def access(db: Database, tmp_path: Path, clock: Clock) -> Access:
    return Access(db, load_signing_key(tmp_path), clock=clock)


def who(access: Access, token: str) -> Identity:
    identity = access.identify(f"Bearer {token}")
    assert identity is not None
    return identity


def refusal(call: object, *arguments: object) -> tuple[int, str | None]:
    with pytest.raises(AccessError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.status, caught.value.code


def test_a_hub_token_identifies_its_user_and_looks_like_one(access: Access) -> None:
    token = access.add_user("alice", role="write", grants={"acme": "read"}, token_name="laptop")
    identity = who(access, token)
    assert (identity.user, identity.role, identity.token_name, identity.grants) == (
        "alice",
        "write",
        "laptop",
        {"acme": "read"},
    )
    assert token.startswith("hf_")
    assert token[3:].isalnum()
    assert len(token) == 37


def test_adding_a_user_again_keeps_the_token_and_changes_what_it_allows(access: Access) -> None:
    token = access.add_user("alice", role="write")
    assert access.add_user("alice", role="read") == token
    assert who(access, token).role == "read"
    assert access.add_user("alice", role="read", token_name="other") != token


@pytest.mark.parametrize("role", ["admin", "", "READ"])
def test_an_unknown_role_is_refused(access: Access, role: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        access.add_user("alice", role=role)  # type: ignore[arg-type]


def test_a_grant_that_can_never_match_is_refused(access: Access) -> None:
    with pytest.raises(ValueError, match="acme/corpus"):
        access.add_user("alice", role="write", grants={"acme/corpus": "write"})


def test_no_header_is_nobody_and_a_wrong_one_is_401(access: Access) -> None:
    token = access.add_user("alice", role="write")
    assert access.identify(None) is None
    flipped = token[:-1] + ("a" if token[-1] != "a" else "b")
    for header in (
        f"Basic {token}",
        "Bearer",
        "Bearer hf_",
        f"Bearer {flipped}",
        "Bearer hf_\udcff",
        f"Bearer {token}x",
    ):
        assert refusal(access.identify, header) == (401, None), header


def test_a_revoked_token_is_401(access: Access) -> None:
    token = access.add_user("alice", role="write")
    access.revoke("alice")
    assert refusal(access.identify, f"Bearer {token}") == (401, None)


def test_a_token_of_another_key_is_401(access: Access, db: Database) -> None:
    token = access.add_user("alice", role="write")
    assert refusal(Access(db, b"x" * 32).identify, f"Bearer {token}") == (401, None)


def test_a_private_or_missing_repository_is_not_visible(access: Access) -> None:
    stranger = who(access, access.add_user("bob", role="write"))
    for repository in (PRIVATE, "models/acme/none"):
        assert refusal(access.check, stranger, repository, "read") == (404, "RepoNotFound")
        assert refusal(access.check, stranger, repository, "write") == (404, "RepoNotFound")
        assert refusal(access.check, None, repository, "read") == (401, "RepoNotFound")


def test_everybody_reads_what_is_public_and_strangers_do_not_write_it(access: Access) -> None:
    stranger = who(access, access.add_user("bob", role="write"))
    access.check(None, PUBLIC, "read")
    access.check(stranger, PUBLIC, "read")
    assert refusal(access.check, None, PUBLIC, "write") == (401, None)
    assert refusal(access.check, stranger, PUBLIC, "write") == (403, None)


@pytest.mark.parametrize("grants", [{"*": "write"}, {"acme": "write"}, {PRIVATE: "write"}])
def test_a_grant_reaches_everything_a_namespace_or_one_repository(access: Access, grants: dict[str, str]) -> None:
    identity = who(access, access.add_user("bob", role="fineGrained", grants=grants))  # type: ignore[arg-type]
    access.check(identity, PRIVATE, "write")


def test_a_read_grant_does_not_write_and_a_read_token_never_does(access: Access) -> None:
    reader = who(access, access.add_user("bob", role="fineGrained", grants={PRIVATE: "read"}))
    access.check(reader, PRIVATE, "read")
    assert refusal(access.check, reader, PRIVATE, "write") == (403, None)
    read_only = who(access, access.add_user("carol", role="read", grants={"acme": "write"}))
    access.check(read_only, PRIVATE, "read")
    assert refusal(access.check, read_only, PRIVATE, "write") == (403, None)
    assert not read_only.allows(PRIVATE, "write")


def test_the_own_namespace_belongs_to_its_user_but_not_to_a_fine_grained_token(access: Access) -> None:
    access.check(who(access, access.add_user("acme", role="write")), PRIVATE, "write")
    fine = who(access, access.add_user("acme", role="fineGrained", token_name="fine"))
    assert refusal(access.check, fine, PRIVATE, "read") == (404, "RepoNotFound")


def test_a_xet_token_says_what_it_was_issued_for(access: Access, clock: Clock) -> None:
    alice = who(access, access.add_user("alice", role="write", grants={"acme": "write"}))
    token, expires_at = access.issue_xet_token(alice, "write", PRIVATE, "refs/pr/1")
    grant = access.verify_xet_token(token)
    assert (grant.scope, grant.repository, grant.revision, grant.user, grant.expires_at) == (
        "write",
        PRIVATE,
        "refs/pr/1",
        "alice",
        expires_at,
    )
    assert expires_at == clock.now + 900


def test_a_xet_token_is_only_issued_to_who_may(access: Access) -> None:
    assert access.issue_xet_token(None, "read", PUBLIC, "main")[0]
    assert refusal(access.issue_xet_token, None, "write", PUBLIC, "main") == (401, None)
    assert refusal(access.issue_xet_token, None, "read", PRIVATE, "main") == (401, "RepoNotFound")
    reader = who(access, access.add_user("bob", role="read", grants={"acme": "read"}))
    assert refusal(access.issue_xet_token, reader, "write", PUBLIC, "main") == (403, None)
    assert len(access.issued_xet_tokens()) == 1


def test_a_xet_token_expires_to_the_second(access: Access, clock: Clock) -> None:
    access.token_life = 1
    token, _ = access.issue_xet_token(None, "read", PUBLIC, "main")
    clock.now += 0.9
    access.verify_xet_token(token)
    clock.now += 0.1
    with pytest.raises(AccessError, match="has expired") as caught:
        access.verify_xet_token(token)
    assert caught.value.status == 401
    with pytest.raises(ValueError, match="at least 1 second"):
        access.token_life = 0


def test_a_changed_xet_token_is_refused(access: Access) -> None:
    token, _ = access.issue_xet_token(None, "read", PUBLIC, "main")
    payload, mac = token.removeprefix("xet_").split(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    fields[0] = "write"
    forged = base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).rstrip(b"=").decode()
    for bad in (
        "",
        "xet_",
        f"xet_{forged}.{mac}",
        token[:-2],
        token + "A",
        payload + "." + mac,
        "xet_\xe9.x",
        "x" * 9000,
    ):
        assert refusal(access.verify_xet_token, bad) == (401, None), bad


def test_issued_tokens_can_be_recomputed_but_are_stored_nowhere(access: Access, tmp_path: Path) -> None:
    hub_token = access.add_user("alice", role="write", grants={"acme": "write"})
    alice = who(access, hub_token)
    tokens = [access.issue_xet_token(alice, scope, PUBLIC, "main")[0] for scope in ("read", "write", "read")]
    access.sign_data_url("/data")
    assert access.issued_xet_tokens() == tokens
    assert access.hub_token("alice") == hub_token
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"alice" in stored
    for token in (hub_token, *tokens):
        assert token.encode() not in stored
        # Neither the part that only who holds the key can compute.
        assert token[-24:].encode() not in stored


def test_tokens_survive_a_restart(access: Access, db: Database, tmp_path: Path, clock: Clock) -> None:
    hub_token = access.add_user("alice", role="write")
    xet_token, _ = access.issue_xet_token(None, "read", PUBLIC, "main")
    restarted = Access(db, load_signing_key(tmp_path), clock=clock)
    assert who(restarted, hub_token).user == "alice"
    assert restarted.verify_xet_token(xet_token).repository == PUBLIC


def test_the_signing_key_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    key = load_signing_key(tmp_path)
    assert load_signing_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["signing.key"]
    (tmp_path / "signing.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="is damaged"):
        load_signing_key(tmp_path)


@pytest.mark.parametrize("target", ["/cas/x/data/abc", "/cas/x/data/abc?range=0-5"])
def test_a_data_url_authorises_itself_until_it_expires(access: Access, clock: Clock, target: str) -> None:
    url = access.sign_data_url(target)
    assert url.startswith(target)
    access.verify_data_url(url)
    for bad in (
        url[:-1],
        url + "0",
        url.replace("abc", "abd"),
        target,
        "",
        "&sig=",
        url.replace("expires=1", "expires=2"),
    ):
        assert refusal(access.verify_data_url, bad) == (403, None), bad
    clock.now += 900
    assert refusal(access.verify_data_url, url) == (403, None)
