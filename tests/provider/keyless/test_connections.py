"""What a keyless connection may name, and what its Test button says."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.exceptions import (
    XetIdentityError,
    XetIdentityUnavailableError,
    XetInputError,
    XetWeakCredentialError,
)
from airflow_provider_xethub.hooks.connections import identities
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetTokenOperator, XetUploadOperator
from support.identities import SUBJECT
from xethub_local.control.faults import Fault


class Custom:
    """A source of ID tokens as an administrator might write it."""

    answer: object = None

    def id_token(self, audience):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(audience) if callable(self.answer) else self.answer


class NeedsArguments:
    def __init__(self, argument):
        pass


@pytest.fixture
def custom(keyless, hub, monkeypatch):
    """Makes the identity ``custom`` answer something."""
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_CLASS", f"{__name__}.Custom")
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", hub.url)
    keyless(identity="custom", identity_file=None)

    def answers(answer):
        monkeypatch.setattr(Custom, "answer", staticmethod(answer) if callable(answer) else answer)
        return XetHubConnection()

    return answers


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            {"identity": "kubernetes"},
            "The identity 'kubernetes' of connection 'xethub_default' is unknown; use one of file",
        ),
        ({"identity": ""}, "Connection 'xethub_default' has the extra 'identity_file' but no identity"),
        ({"identity": "", "identity_file": "", "identity_user": "me"}, "has the extra 'identity_user' but no identity"),
        ({"identity": "variable"}, "has the extra 'identity_file', but its identity is 'variable'"),
        ({"identity_file": ""}, "does not say which identity it means. Set its extra 'identity_file' to the path"),
        ({"identity": "variable", "identity_file": ""}, "Set its extra 'identity_variable' to the name"),
        ({"identity_variable": "HOME"}, "has the extra 'identity_variable', but its identity is 'file'"),
        ({"identity": 7}, "The extra 'identity' of connection 'xethub_default' must be a string"),
        ({"identity_file": ["a"]}, "The extra 'identity_file' of connection 'xethub_default' must be a string"),
    ],
)
def test_a_connection_that_contradicts_itself_is_refused(hub, repo, keyless, extra, said):
    keyless(**extra)
    with pytest.raises(XetInputError) as error:
        XetHubConnection().list_files(repo)
    assert said in str(error.value)
    assert not hub.log.requests()


def test_a_hub_token_beside_an_identity_is_refused_without_showing_it(hub, repo, connection, id_file):
    connection(extra={"identity": "file", "identity_file": str(id_file)})
    with pytest.raises(
        XetInputError, match=r"has both a Hub token and an identity, and only one can apply\. Rem"
    ) as error:
        XetHubConnection().list_files(repo)
    assert hub.token() not in str(error.value)
    assert not hub.log.requests()


def test_a_connection_without_both_reads_public_repositories_as_before(repo, connection):
    connection(password=None)
    assert XetHubConnection().list_files(repo)


@pytest.mark.parametrize(
    "extra",
    [{"identity_file": "/etc/passwd"}, {"identity": "variable", "identity_file": "", "identity_variable": "PATH"}],
)
def test_what_the_administrator_does_not_list_is_refused(hub, repo, keyless, extra):
    keyless(**extra)
    with pytest.raises(
        XetIdentityError, match=r"is not allowed\. Ask the administrator to add it to \[xethub\] identity_"
    ):
        XetHubConnection().list_files(repo)
    assert not hub.log.requests()


def test_a_variable_that_the_administrator_lists_is_an_identity(hub, make_repo, keyless, publisher, monkeypatch):
    private = make_repo(private=True)
    publisher(private)
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_VARIABLES", "HF_ID_TOKEN,OTHER")
    monkeypatch.setenv("HF_ID_TOKEN", hub.identity(SUBJECT))
    keyless(identity="variable", identity_file=None, identity_variable="HF_ID_TOKEN")
    assert XetHubConnection().list_files(private)


def test_a_custom_class_is_asked_for_the_audience_of_the_hub(hub, make_repo, publisher, custom):
    private = make_repo(private=True)
    publisher(private)
    assert custom(lambda audience: hub.identity(SUBJECT, aud=audience)).list_files(private)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (None, XetIdentityError, "returned NoneType instead of a string"),
        (b"x", XetIdentityError, "returned bytes instead of a string"),
        ("not a token", XetIdentityError, "it is not a signed JWT"),
        (RuntimeError("secret"), XetIdentityError, r"failed \(RuntimeError\)\. Correct it"),
        (XetIdentityError("Mine."), XetIdentityError, "^Mine"),
    ],
)
def test_a_custom_class_that_fails_is_named_and_its_text_is_not_shown(hub, repo, custom, answer, kind, said):
    with pytest.raises(kind, match=said) as error:
        custom(answer).list_files(repo)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
    assert not hub.log.requests()


def test_a_custom_class_may_ask_for_retries(hub, make_repo, publisher, custom):
    private = make_repo(private=True)
    publisher(private)
    tries = iter([XetIdentityUnavailableError("The service is busy."), None])

    def answer(audience):
        if error := next(tries):
            raise error
        return hub.identity(SUBJECT)

    assert custom(answer).list_files(private)


@pytest.mark.parametrize("path", ["missing.module.Class", "os.nothing", "os", f"{__name__}.NeedsArguments"])
def test_a_custom_class_that_cannot_be_made_is_named(repo, hub, keyless, monkeypatch, path):
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_CLASS", path)
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", hub.url)
    keyless(identity="custom", identity_file=None)
    with pytest.raises(
        XetIdentityError, match=rf"^The class '{path}' of \[xethub\] identity_class cannot be used here"
    ):
        XetHubConnection().list_files(repo)


def test_without_a_configured_class_there_is_no_custom_identity(repo, hub, keyless, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", hub.url)
    keyless(identity="custom", identity_file=None, identity_class="os.path")
    with pytest.raises(XetIdentityError, match=r"Ask the administrator to set \[xethub\] identity_class"):
        XetHubConnection().list_files(repo)


@pytest.mark.parametrize(
    ("host", "allowed", "is_allowed"),
    [
        ("https://huggingface.co", "", True),
        ("https://HuggingFace.co:443/", "", True),
        ("https://huggingface.co.evil.example", "", False),
        ("https://evil.example", "", False),
        ("http://huggingface.co", "", False),
        ("https://huggingface.co/evil", "", False),
        ("https://hub.acme.example", "https://other.example, https://hub.acme.example/", True),
        ("https://hub.acme.example:8443", "https://hub.acme.example", False),
        ("http://127.0.0.1:5000", "", True),
        ("http://[::1]:5000", "", True),
        ("http://127.0.0.1.evil.example", "", False),
        ("http://localhost.evil.example", "", False),
    ],
)
def test_only_hubs_that_the_administrator_trusts_get_an_identity(host, allowed, is_allowed, monkeypatch, id_file):
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", allowed)
    extras = {"identity": "file", "identity_file": str(id_file)}

    def open_identity():
        return identities.of("hub", lambda name: extras.get(name, ""), has_password=False, endpoint=host)

    if is_allowed:
        assert open_identity().id_token(host) == id_file.read_text()
    else:
        with pytest.raises(XetIdentityError, match=r"^No identity may be sent to .*, the host of connection 'hub'"):
            open_identity().id_token(host)


def test_a_wrong_list_of_hubs_is_named(monkeypatch, repo, keyless):
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", "hub.acme.example")
    with pytest.raises(
        XetIdentityError, match=r"identity_endpoints contains 'hub\.acme\.example', which is not the URL"
    ):
        XetHubConnection().list_files(repo)


def test_plain_http_is_for_this_machine_and_never_through_a_proxy(hub, repo, keyless, monkeypatch):
    keyless(proxy="http://127.0.0.1:9")
    with pytest.raises(XetIdentityError, match=r"is not https: no ID token is sent there"):
        XetHubConnection().list_files(repo)
    assert not hub.log.requests()


def test_an_id_token_for_this_machine_bypasses_the_proxy_of_the_environment(make_repo, keyless, publisher, monkeypatch):
    private = make_repo(private=True)
    publisher(private)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    hub = XetHubConnection().hub
    assert hub.exchanged_token(hub.exchanged.of_repo(private))


def test_a_worker_with_a_given_token_needs_no_identity(
    make_repo, keyless, publisher, run_task, id_file, tmp_path, monkeypatch
):
    private = make_repo(private=True)
    publisher(private)
    token = run_task(XetTokenOperator, repo_id=private.repo_id, repo_type="dataset", scope="write").value
    id_file.unlink()
    monkeypatch.delenv("AIRFLOW__XETHUB__IDENTITY_FILES")
    (tmp_path / "large.bin").write_bytes(b"w" * 100_000)
    run = run_task(XetUploadOperator, source=str(tmp_path / "large.bin"), token=token, commit=False)
    assert [file["path"] for file in run.value] == ["large.bin"]


# --- the Test button


def test_the_test_names_identity_issuer_subject_and_repository(hub, make_repo, keyless, publisher, id_file):
    private = make_repo(private=True)
    publisher(private, read_only=True)
    keyless(repo_id=private.repo_id, repo_type="dataset")
    ok, said = XetHubConnection().test_connection()
    assert ok
    assert said.startswith(
        f"Connected to {hub.url} with the identity file {id_file}: issuer '{hub.issuer}', subject '{SUBJECT}'. "
        f"Exchanged for a token of datasets/{private.repo_id}."
    )
    assert id_file.read_text() not in said


def test_the_test_says_what_it_could_not_try(hub, keyless, id_file):
    ok, said = XetHubConnection().test_connection()
    assert ok
    assert said.startswith(f"Found the identity file {id_file}: issuer ")
    assert "Not tried: its exchange, because the connection has neither a default repository nor a user." in said
    assert [request.path for request in hub.log.requests()] == ["/api/models"]


def test_the_test_tries_the_user_of_the_connection(hub, keyless, publisher):
    hub.add_user("reader", role="read")
    publisher("reader")
    keyless(identity_user="reader")
    ok, said = XetHubConnection().test_connection()
    assert (ok, "Exchanged for a token of user reader." in said) == (True, True)


def test_the_test_says_which_publisher_is_missing(hub, make_repo, keyless):
    private = make_repo(private=True)
    keyless(repo_id=private.repo_id, repo_type="dataset")
    ok, said = XetHubConnection().test_connection()
    assert not ok
    assert said.startswith(f"The Hub has no trusted publisher in datasets/{private.repo_id} for this worker")
    assert f"with issuer '{hub.issuer}', subject '{SUBJECT}'" in said


def test_the_test_says_where_it_looked_for_the_identity(keyless, id_file):
    id_file.unlink()
    ok, said = XetHubConnection().test_connection()
    assert not ok
    assert said.startswith(f"The identity file {id_file} is missing.")
    assert said.endswith("This test ran in Airflow's API server, not on a worker.")


def test_the_test_calls_the_connection_this_connection(keyless, id_file):
    keyless(identity="file", identity_file="")
    ok, said = XetHubConnection().test_connection()
    assert not ok
    assert said.startswith("This connection does not say which identity it means.")


def test_the_test_is_quick_where_the_hub_is_busy(hub, make_repo, keyless):
    keyless(repo_id=make_repo().repo_id, repo_type="dataset")
    hub.faults.add(Fault("POST /oauth/token", status=503))
    ok, _ = XetHubConnection().test_connection()
    assert (ok, len(hub.log.requests())) == (False, 1)


@pytest.fixture
def masked(monkeypatch):
    """What Airflow was told to mask, by this process for itself and for its supervisor."""
    everywhere, here = [], []
    masker = type("Masker", (), {"add_mask": staticmethod(here.append)})
    monkeypatch.setattr(sealing, "mask_secret", everywhere.append)
    monkeypatch.setattr(sealing, "_masker_of_process", lambda: masker)
    return everywhere, here


def test_a_process_masks_only_so_many_short_lived_tokens(masked):
    for number in range(sealing.MAX_SHORT_LIVED + 100):
        sealing.mask_short_lived(f"token {number}")
        sealing.mask_short_lived(f"token {number}")
    assert [len(each) for each in masked] == [sealing.MAX_SHORT_LIVED, 0]


def test_a_thread_masks_for_its_process_only_and_the_main_thread_tells_the_supervisor(masked):
    thread = threading.Thread(target=sealing.mask_short_lived, args=["token"])
    thread.start()
    thread.join()
    assert masked == ([], ["token"])
    sealing.mask_short_lived("token")
    sealing.mask_short_lived("token")
    assert masked == (["token"], ["token"])


def test_a_token_of_a_thread_is_masked_in_the_logs_of_this_process():
    from airflow.providers.common.compat.sdk import redact

    thread = threading.Thread(target=sealing.mask_short_lived, args=["hf_jwt_of_a_thread"])
    thread.start()
    thread.join()
    assert redact("It is hf_jwt_of_a_thread.") == "It is ***."


@pytest.mark.parametrize("minimum", ["fine_grained", "keyless"])
def test_an_identity_is_a_credential_that_every_administrator_accepts(
    hub, keyless, publisher, make_repo, monkeypatch, minimum
):
    """And the Hub, which limits how often it says whose token it was asked with, is not asked."""
    monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", minimum)
    repo = make_repo(private=True)
    publisher(repo)
    hub.log.clear()
    assert XetHubConnection().list_files(repo)
    assert not [entry for entry in hub.log.requests() if entry.path == "/api/whoami-v2"]


def test_an_exchanged_token_as_password_is_as_narrow_as_a_fine_grained_one(
    hub, keyless, connection, publisher, make_repo, monkeypatch
):
    repo = make_repo(private=True)
    publisher(repo)
    token = XetHubConnection().hub.token_of(repo.repo_type, repo.repo_id)
    assert token.startswith("hf_jwt_")
    connection(password=token)
    monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", "fine_grained")
    hub.log.clear()
    assert XetHubConnection().list_files(repo)
    assert not [entry for entry in hub.log.requests() if entry.path == "/api/whoami-v2"]
    monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", "keyless")
    with pytest.raises(XetWeakCredentialError):
        XetHubConnection().list_files(repo)
