"""A token sealed to a process that is not Airflow: nobody else opens it, and the process moves a file with it."""

from __future__ import annotations

import json
import runpy
import subprocess
import venv
from pathlib import Path

import cryptography
import hf_xet
import joserfc
import pytest

import xethub_token
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetTokenOperator, XetUploadOperator
from airflow_provider_xethub.xet import token as tokens
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import binary, content
from support.secret_values import assert_absent
from xethub_token.recipient import RecipientKey, TokenError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def test_only_the_recipient_opens_the_token_and_a_task_says_what_it_was_given(where, repo, connection, run_task, hub):
    key = RecipientKey.generate()
    value = run_task(XetTokenOperator, scope="write", recipient=key.public, **where).value
    document = key.open(value, repo=repo.uri, scope="write")
    assert set(document) == tokens.TokenDocument.__required_keys__
    assert document["access_token"] == hub.access.issued_xet_tokens()[-1]
    assert document["endpoint"] == hub.url
    assert document["renewed"] is False
    with pytest.raises(TokenError):
        RecipientKey.generate().open(value)
    for operator, arguments in (
        (XetUploadOperator, {"source": __file__, "commit": False}),
        (XetDownloadOperator, {"destination": "/nowhere", "paths": "a"}),
    ):
        with new_dag():
            token = XetTokenOperator(task_id="token", recipient=key.public, **where)
            task = operator(task_id="task", token=token.output, **arguments)
        run = run_one(task, api=ExecutionApi(xcoms={("token", "return_value", -1): value}))
        assert "token is sealed to a recipient: only the process that made the key opens it" in run.text
        assert run.is_final


def test_a_worker_without_a_fernet_key_seals_to_a_recipient(
    where, repo, connection, run_task, monkeypatch, fernet_cache
):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    key = RecipientKey.generate()
    assert key.open(run_task(XetTokenOperator, recipient=key.public["x"], **where).value)["repo"] == repo.uri


def test_the_key_may_be_the_xcom_of_an_earlier_task(where, repo, connection):
    key = RecipientKey.generate()
    for xcom in (key.public, json.dumps(key.public), key.public["x"]):
        with new_dag():
            before = XetTokenOperator(task_id="before", **where)
            task = XetTokenOperator(task_id="token", recipient=before.output, **where)
        assert task.upstream_task_ids == {"before"}
        run = run_one(task, api=ExecutionApi(xcoms={("before", "return_value", -1): xcom}))
        assert key.open(run.value)["repo"] == repo.uri
        assert key.public["x"] in json.dumps(run.rendered)


@pytest.mark.parametrize(
    ("recipient", "message"),
    [
        ("{{ none }}", "32 bytes in base64url"),
        ("{{ '' }}", "recipient is empty"),
        ("{{ {'kty': 'OKP'} }}", "add | tojson"),
        ("nonsense", "32 bytes in base64url"),
        ({"kty": "OKP", "crv": "X25519", "x": "AA", "d": "AA"}, "contains a private key"),
    ],
)
def test_without_a_usable_key_no_token_is_fetched(where, connection, run_task, hub, recipient, message):
    run = run_task(XetTokenOperator, recipient=recipient, **where)
    assert message in run.text
    assert run.is_final
    assert not hub.log.requests("GET .*-token/.*")


def test_a_token_for_a_recipient_is_bound_to_no_task(where, repo, connection, run_task, hub):
    key = RecipientKey.generate()
    for restriction in ({"bind": "run"}, {"consumers": ["task"]}):
        run = run_task(XetTokenOperator, recipient=key.public, **restriction, **where)
        assert "leave out bind and consumers" in run.text
        assert not hub.log.requests("GET .*-token/.*")
        with pytest.raises(XetInputError, match="leave out bind and consumers"):
            XetHubConnection().seal_token(tokens.XetToken(repo, "read", "", None), recipient=key.public, **restriction)


def test_nothing_that_airflow_keeps_shows_the_token_or_a_private_key(
    where, connection, secrets, run_task, seen, tmp_path
):
    key = RecipientKey.generate()
    key.save(tmp_path / "key")
    value = seen.run(run_task(XetTokenOperator, scope="write", recipient=key.public, **where)).value
    opened = key.open(value)
    seen.add(key, value)
    for broken in (value[:-20], value.replace(".", "", 1), value + "A"):
        with pytest.raises(TokenError) as caught:
            key.open(broken)
        seen.add(caught.value)
        seen.run(run_task(XetUploadOperator, source=__file__, token=broken, commit=False))
    private = json.loads((tmp_path / "key").read_text())
    seen.run(run_task(XetTokenOperator, recipient=json.dumps({**key.public, "d": "x" * 43}), **where))
    text = seen.text()
    assert value in text
    assert opened["access_token"] in secrets()
    assert_absent([*secrets(), private["d"]], text)


@pytest.fixture
def container(tmp_path):
    """The programs of a container: an interpreter with ``xethub-token`` and ``hf_xet``, and no Airflow."""
    folder = tmp_path / "container"
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for module in (hf_xet, xethub_token, joserfc, cryptography):
        package = Path(module.__file__).parent
        (packages / package.name).symlink_to(package)
    for needed in ("cffi", "pycparser", "typing_extensions.py"):
        found = Path(joserfc.__file__).parent.parent / needed
        if found.exists():
            (packages / needed).symlink_to(found)
    for native in Path(joserfc.__file__).parent.parent.glob("_cffi_backend*"):
        (packages / native.name).symlink_to(native)
    (folder / "bin/transfer.py").symlink_to(ROOT / "docs/examples/hand_over/transfer.py")
    script = folder / "bin/xethub-token"
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom xethub_token.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return folder / "bin"


def test_the_container_has_no_airflow(container):
    code = "import importlib.util as u; print([n for n in ('airflow', 'airflow_provider_xethub') if u.find_spec(n)])"
    done = subprocess.run([container / "python", "-c", code], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_container_uploads_a_file_with_the_token_that_is_sealed_to_its_key(
    container, repo, connection, run_dag, hub, tmp_path
):
    """The example ``dags_example/xethub_recipient.py``, as it is: real processes, which share a folder."""
    work, source = tmp_path / "work", tmp_path / "data.bin"
    work.mkdir()
    source.write_bytes(binary(200_000, tmp_path))
    dag = runpy.run_path(str(ROOT / "dags_example/xethub_recipient.py"))["dag"]
    conf = {"repo_id": repo.repo_id, "file": str(source), "work": str(work), "bin": str(container)}
    for task in dag.tasks:
        task.retries = 0
    run = run_dag(dag, conf)
    assert run.state == "success", run.states
    assert content(hub, repo, "data.bin", tmp_path / "cache") == source.read_bytes()
    assert list(work.iterdir()) == []
    [sealed] = run.xcoms("token")
    kept = json.dumps([run.rendered("upload"), run.rendered("token"), *map(run.xcoms, run.states)])
    assert sealed in kept
    assert_absent([*hub.access.issued_xet_tokens(), hub.token()], kept)
