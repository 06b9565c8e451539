"""The distribution ``xethub-token``: the key of a recipient, and the console script."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import pty
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey

from airflow_provider_xethub.xet import recipient
from airflow_provider_xethub.xet.token import TokenDocument
from xethub_token import cli
from xethub_token.recipient import TYPE, RecipientKey, TokenError

REPO = "hf://datasets/acme/corpus@main"
SECRET = "secret-of-cas"


@pytest.fixture(scope="module")
def key():
    return RecipientKey.generate()


def _document(**changed):
    soon = datetime.now(timezone.utc) + timedelta(minutes=15)
    document: TokenDocument = {
        "version": 1,
        "endpoint": "https://hub.example",
        "repo": REPO,
        "repo_type": "dataset",
        "repo_id": "acme/corpus",
        "revision": "main",
        "scope": "read",
        "cas_url": "https://cas.example",
        "access_token": SECRET,
        "expires_at": soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires_at_unix": int(soon.timestamp()),
        "renewed": False,
    }
    return {**document, **changed}


def _sealed(key, **changed):
    return recipient.seal(json.dumps(_document(**changed)).encode(), key.public)


def _encrypted(key, payload=b"{}", **header):
    """A JWE of somebody else, who knows the public key."""
    registry = jwe.JWERegistry(algorithms=["ECDH-ES", "ECDH-ES+A256KW", "A256GCM", "A128GCM"])
    full = {"alg": "ECDH-ES", "enc": "A256GCM", "typ": TYPE, "kid": key.id, **header}
    return jwe.encrypt_compact(full, payload, OKPKey.import_key({**key.public}), registry=registry)


# --- the key


def test_what_was_sealed_opens_with_the_private_key_and_with_no_other(key):
    sealed = _sealed(key)
    assert key.open(sealed, repo=REPO, scope="read")["access_token"] == SECRET
    assert key.open(f"\n{sealed}\n")["repo"] == REPO
    with pytest.raises(TokenError, match="sealed to another key"):
        RecipientKey.generate().open(sealed)


def test_a_token_for_something_else_is_refused(key):
    with pytest.raises(TokenError, match=f"The token is for {REPO}, not for hf://acme/other@main"):
        key.open(_sealed(key), repo="hf://acme/other@main")
    with pytest.raises(TokenError, match=r"is a read token for .*; write is needed"):
        key.open(_sealed(key), scope="write")
    assert key.open(_sealed(key, scope="write"), scope="read")["scope"] == "write"


def test_an_expired_token_is_refused_with_the_time(key):
    sealed = _sealed(key, expires_at="2026-01-01T00:00:00Z")
    with pytest.raises(TokenError, match=f"The token for {REPO} expired at 2026-01-01T00:00:00Z"):
        key.open(sealed)
    assert key.open(sealed, now=datetime(2025, 1, 1, tzinfo=timezone.utc).timestamp())


@pytest.mark.parametrize("part", range(5))
def test_a_change_of_any_part_is_noticed(key, part):
    parts = _sealed(key).split(".")
    middle = len(parts[part]) // 2
    if part == 0:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=="))
        parts[0] = base64.urlsafe_b64encode(json.dumps({**header, "cty": "text"}).encode()).rstrip(b"=").decode()
    else:
        flipped = "A" if parts[part][middle : middle + 1] != "A" else "B"
        parts[part] = parts[part][:middle] + flipped + parts[part][middle + 1 :]
    with pytest.raises(TokenError) as caught:
        key.open(".".join(parts))
    assert "changed or truncated" in str(caught.value) or "It is refused" in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the input is empty"),
        ("x" * 300_000, "more than 256000 characters"),
        ('{"xet_token": 1}', "This is JSON"),
        ("gAAAAABmtoken", "sealed for Airflow's workers"),
        ("a.b.c", "not a sealed token"),
        ("a.b.c.d.e", "not a sealed token"),
        ("....", "not a sealed token"),
        ("W10.b.c.d.e", "not a sealed token"),
    ],
)
def test_other_input_is_refused_by_what_it_is(key, given, message):
    with pytest.raises(TokenError, match=message):
        key.open(given)


def test_only_the_algorithms_of_the_seal_are_accepted(key):
    for header in ({"alg": "ECDH-ES+A256KW"}, {"enc": "A128GCM"}):
        with pytest.raises(TokenError, match="not sealed with ECDH-ES and A256GCM"):
            key.open(_encrypted(key, **header))
    header = {"alg": "dir", "enc": "A256GCM", "typ": TYPE, "kid": key.id}
    direct = jwe.encrypt_compact(header, b"{}", OctKey.import_key(b"k" * 32), algorithms=["dir", "A256GCM"])
    with pytest.raises(TokenError, match=r"but with .'dir', 'A256GCM'"):
        key.open(direct)
    for extra in ({"zip": "DEF"}, {"crit": ["exp"]}):
        parts = _sealed(key).split(".")
        header = {**json.loads(base64.urlsafe_b64decode(parts[0] + "==")), **extra}
        parts[0] = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        with pytest.raises(TokenError, match="It is refused"):
            key.open(".".join(parts))


def test_a_one_time_key_of_another_curve_or_of_small_order_opens_nothing(key):
    for epk in (ECKey.generate_key("P-256").as_dict(private=False), {"kty": "OKP", "crv": "X25519", "x": "A" * 43}, {}):
        parts = _sealed(key).split(".")
        header = {**json.loads(base64.urlsafe_b64decode(parts[0] + "==")), "epk": epk}
        parts[0] = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        with pytest.raises(TokenError, match="changed or truncated"):
            key.open(".".join(parts))


def test_what_somebody_else_encrypted_for_the_key_is_no_token(key):
    with pytest.raises(TokenError, match="its type is 'JWT'"):
        key.open(_encrypted(key, typ="JWT"))
    for payload in (b"", b"text", b"[]", b"{", b"\xff"):
        with pytest.raises(TokenError, match="not a Xet token"):
            key.open(_encrypted(key, payload))
    with pytest.raises(TokenError, match=r"version 2, not 1. Update xethub-token"):
        key.open(_sealed(key, version=2))
    for name in ("access_token", "cas_url", "repo", "scope", "expires_at"):
        with pytest.raises(TokenError, match=f"lacks {name}"):
            key.open(_sealed(key, **{name: None}))
    with pytest.raises(TokenError, match="expires_at is not a time"):
        key.open(_sealed(key, expires_at="tomorrow"))


def test_a_private_key_shows_itself_nowhere(key, tmp_path):
    key.save(tmp_path / "key")
    private = json.loads((tmp_path / "key").read_text())["d"]
    assert private not in f"{key!r} {key} {key.public} {vars(key)}"
    for dump in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            dump(key)


def test_a_key_is_saved_for_this_user_only_and_read_again(key, tmp_path):
    path = tmp_path / "key.json"
    before = os.umask(0)
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]
    assert RecipientKey.load(path).open(_sealed(key))["repo"] == REPO
    with pytest.raises(TokenError, match=r"exists. Choose another name"):
        key.save(path)
    with pytest.raises(TokenError, match=r"Cannot write .*: No such file"):
        key.save(tmp_path / "missing" / "key.json")


def test_a_key_that_others_may_have_or_that_is_none_is_refused(key, tmp_path):
    path = tmp_path / "key.json"
    with pytest.raises(TokenError, match=r"Cannot read the key .*No such file"):
        RecipientKey.load(path)
    key.save(path)
    path.chmod(0o640)
    with pytest.raises(TokenError, match=r"open to others \(mode 0640\)"):
        RecipientKey.load(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(TokenError, match="Cannot read the key"):
        RecipientKey.load(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TokenError, match="not a regular file"):
        RecipientKey.load(tmp_path / "pipe")
    private = json.loads(path.read_text())
    other = json.loads(json.dumps(OKPKey.generate_key("X25519").as_dict(private=True)))
    for content, message in (
        ("", "is not the private key"),
        ("[]", "is not the private key"),
        ("x" * 5000, "is not the private key"),
        (json.dumps(key.public), "not the private key"),
        (json.dumps({**private, "d": "AA"}), "damaged"),
        (json.dumps({**private, "d": other["d"]}), "its halves differ"),
    ):
        path.chmod(0o600)
        path.write_text(content)
        with pytest.raises(TokenError, match=message) as caught:
            RecipientKey.load(path)
        assert private["d"] not in str(caught.value)


# --- the script


@pytest.fixture
def script(tmp_path, capfd):
    """Runs the script in this process; files are in an empty folder."""

    def run(*arguments):
        code = cli.main([str(each) for each in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def handed(tmp_path, script):
    """Makes a key, and a file with a token that is sealed to it."""

    def make(**changed):
        path = tmp_path / "key.json"
        code, out, err = script("new-key", "--key", path)
        assert (code, err) == (0, "")
        public = json.loads(out)
        (tmp_path / "sealed").write_text(recipient.seal(json.dumps(_document(**changed)).encode(), public))
        return path, tmp_path / "sealed"

    return make


def test_the_script_opens_a_token_into_a_private_file_and_deletes_the_key(handed, script, tmp_path):
    path, sealed = handed()
    (tmp_path / "token.json").write_text("of yesterday")
    code, out, err = script("open", sealed, "--key", path, "--to", tmp_path / "token.json", "--repo", REPO)
    assert (code, out) == (0, "")
    assert f"Opened a read token for {REPO}, valid until " in err
    assert SECRET not in err
    assert json.loads((tmp_path / "token.json").read_text())["access_token"] == SECRET
    assert stat.S_IMODE((tmp_path / "token.json").stat().st_mode) == 0o600
    assert not path.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["sealed", "token.json"]


def test_a_token_that_does_not_open_changes_nothing(handed, script, tmp_path):
    path, sealed = handed(expires_at="2026-01-01T00:00:00Z")
    (tmp_path / "token.json").write_text("of yesterday")
    code, out, err = script("open", sealed, "--key", path, "--to", tmp_path / "token.json")
    assert (code, out) == (1, "")
    assert err.startswith(f"xethub-token: The token for {REPO} expired")
    assert (tmp_path / "token.json").read_text() == "of yesterday"
    assert path.exists()
    code, _, err = script("open", tmp_path / "missing", "--key", path, "--to", tmp_path / "token.json")
    assert (code, err) == (1, f"xethub-token: Cannot read {tmp_path / 'missing'}: No such file or directory.\n")


def test_the_script_reads_the_json_string_of_an_xcom_and_keeps_the_key_if_asked(handed, script, tmp_path):
    path, sealed = handed()
    sealed.write_text(json.dumps(sealed.read_text()) + "\n")
    code, out, _ = script("open", sealed, "--key", path, "--to", "-", "--keep-key")
    assert code == 0
    assert json.loads(out)["access_token"] == SECRET
    assert path.exists()


def test_a_token_is_not_shown_on_a_terminal_unless_asked(handed, tmp_path):
    path, sealed = handed()

    def run(*more):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "xethub_token.cli", "open", "--key", path, "--to", "-", *more]
        with sealed.open() as file:
            result = subprocess.run(command, stdin=file, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 10_000)
            except OSError:
                break
            if not part:
                break
            shown += part
        os.close(ours)
        return result, shown.decode()

    result, shown = run()
    assert result.returncode == 1
    assert "Standard output is a terminal. Write the token to a file (--to FILE), or add --show." in result.stderr
    assert shown == ""
    assert path.exists()
    result, shown = run("--show")
    assert result.returncode == 0
    assert SECRET in shown


def test_core_dumps_are_disabled_while_a_token_is_open(script, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        script("new-key", "--key", tmp_path / "key")
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_the_script_takes_no_secret_as_an_argument(script, capfd):
    with pytest.raises(SystemExit):
        script("open", "--help")
    assert {"--key", "--to", "--repo", "--scope", "--keep-key", "--show"} <= set(capfd.readouterr().out.split())
    with pytest.raises(SystemExit):
        script("open", "--to", "-")
