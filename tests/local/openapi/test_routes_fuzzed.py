"""Requests made from the server's own OpenAPI description, right and wrong ones, to every route of a real server.

Whatever is asked: no 5xx, no dropped connection, no hang; an answer of the promised form; and of an error, why.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from support.examples import at_length
from support.hub_process import HubProcess
from xethub_local.formats.hashing import to_hex
from xethub_local.local_store import LocalStore
from xethub_local.metadata.buckets import BucketFile
from xethub_local.metadata.commits import Change, PutRegular, PutXet
from xethub_local.store.errors import HubError
from xethub_local.store.publishers import Resource

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import CHECKS  # noqa: E402
from schemathesis.core.failures import FailureGroup  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.exhaustive, pytest.mark.timeout(900)]

_EXAMPLES = at_length(8, 100)  # of each operation, right ones and wrong ones each
_HANG_SECONDS = 30
_MAX_MEMORY = 400 * 1024**2
WRITE, XET = 0, 2  # places in the list of credentials
_REPOSITORY = "acme/corpus"
_CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@schemathesis.serializer("application/x-ndjson")
def _as_it_is(_: Any, value: Any) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


class Target:
    """A running server with content, which comes back where a request deleted it."""

    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub
        self.store = LocalStore(hub.folder)  # two processes may use one folder
        self.content = os.urandom(200_000)
        self.known: dict[str, list[Any]] = {}
        self.restore()

    def restore(self) -> None:
        stored = self.store.content.add_plain(self.content)
        commit_id = ""
        for kind in ("models", "datasets", "spaces", "buckets"):
            name = f"{kind}/{_REPOSITORY}"
            try:
                self.store.repositories.create(name)
            except HubError:
                self.store.repositories.set_private(name, False)
            self.store.content.grant(name, stored.xet_hash)
            if kind == "buckets":
                file = BucketFile("data/big.bin", stored.size, stored.xet_hash, 1, 1.0)
                self.store.bucket_files.put(name, file)
                continue
            changes: list[Change] = [
                PutRegular("README.md", b"# Corpus\n"),
                PutXet("data/big.bin", stored.xet_hash, stored.sha256 or "", stored.size),
            ]
            commit_id = self.store.commits.commit(name, "main", changes, title="seed").commit.id
            if not any(one.is_pull_request for one in self.store.commits.discussions.find_all(name)):
                self.store.commits.commit(name, "main", changes, title="pull", create_pr=True)
        plan = self.store.content.reconstruct(stored.xet_hash, 0, None)
        xorb_hash = to_hex(next(iter(plan.fetches)))
        self.known = {
            "kind": ["datasets", "models", "spaces"],
            "namespace": ["acme"],
            "name": ["corpus"],
            "revision": ["main", "refs/pr/1", commit_id, "HEAD"],
            "branch": ["main", "dev"],
            "path": ["README.md", "data/big.bin", "data", ".gitattributes"],
            "hash": [stored.xet_hash, xorb_hash],
            "oid": [stored.sha256],
            "number": [1],
            "prefix": ["default"],
        }

    def credentials(self) -> list[dict[str, str]]:
        write, read = self.hub.tokens["write"], self.hub.tokens["read"]
        user = next(one for one in self.store.access.identities() if one.role == "write")
        xet = [
            self.store.access.issue_xet_token(user, scope, f"datasets/{_REPOSITORY}", "main")[0]
            for scope in ("write", "read")
        ]
        publisher = self.store.publishers.add(Resource(f"datasets/{_REPOSITORY}"), {"sub": "pod"})
        exchanged = self.store.access.exchanged_tokens.issue(publisher, issuer="i", subject="pod", lifetime=900)[0]
        self.store.publishers.remove(publisher.id)
        tokens = [write, read, *xet, exchanged, "hf_wrong", "hf_jwt_a.b.c", "xet_\xe4.", ""]
        return [*({"Authorization": f"Bearer {token}"} for token in tokens), {}]

    def sign(self, case: Any) -> None:
        """Turn a request for bytes into one whose URL this server signed."""
        target, size = case.formatted_path, len(self.content)
        signed_by_server = {
            "/data/{hash}": "range=0-100",
            "/uploads/{hash}": f"grant=1&repository=datasets/{_REPOSITORY}&length=10&crc64nvme=5",
            "/complete": f"size={size}&part={size}",
        }
        query = next(
            (said for end, said in signed_by_server.items() if case.operation.path.endswith(end)), f"size={size}"
        )
        signed = self.store.access.sign_data_url(f"{target}?{query}")
        case.query = dict(pair.split("=", 1) for pair in signed.partition("?")[2].split("&"))
        if "/data/{hash}" in case.operation.path:
            case.headers["Range"] = "bytes=0-99"  # without it the URL authorises nothing


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with HubProcess(tmp_path_factory.mktemp("hub") / "data") as hub:
        running = Target(hub)
        yield running
        running.store.close()


def test_no_request_made_from_the_description_breaks_the_server(target: Target) -> None:
    failures, seen = _fuzz_all(target, lambda operation: not _misbehaves(operation))
    assert not failures, "\n\n".join(failures)
    assert "Traceback" not in target.hub.error_text()
    assert target.hub.memory("VmHWM") < _MAX_MEMORY
    assert seen.get(206), "no signed URL gave data"
    assert sum(count for status, count in seen.items() if status < 300) > sum(seen.values()) / 10, "never deep"


def test_no_request_that_controls_the_server_breaks_it(target: Target) -> None:
    # The faults that these arm never act on these routes themselves.
    failures, _ = _fuzz_all(target, _misbehaves)
    headers = {"Authorization": f"Bearer {target.hub.tokens['write']}"}
    assert requests.post(f"{target.hub.url}/_local/reset", headers=headers, timeout=_HANG_SECONDS).status_code == 200
    assert not failures, "\n\n".join(failures)
    assert "Traceback" not in target.hub.error_text()


def _misbehaves(operation: Any) -> bool:
    return operation.path.startswith("/_local/") and operation.method != "get"


def _fuzz_all(target: Target, chosen: Callable[[Any], bool]) -> tuple[list[str], dict[int, int]]:
    """Return what failed, and how often each status was answered."""
    schema = schemathesis.openapi.from_url(f"{target.hub.url}/_local/openapi.json")
    before = target.hub.memory()
    failures: list[str] = []
    seen: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if not chosen(operation) or operation.path.endswith("/events"):  # whose answer ends when the client leaves
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            target.restore()
            try:
                _fuzz(target, operation, mode, seen)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # nothing can be wrong where nothing is asked for
            except (Exception, FailureGroup) as error:
                failures.append(f"{mode.value} {operation.label}: {_text(error)}")
    after, peak = target.hub.memory(), target.hub.memory("VmHWM")
    print(f"\n{sum(seen.values())} requests: {dict(sorted(seen.items()))}")
    print(f"memory {before >> 20} MiB before, {after >> 20} after, {peak >> 20} at most")
    return failures, seen


def _fuzz(target: Target, operation: Any, mode: GenerationMode, seen: dict[int, int]) -> None:
    credentials = target.credentials()

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(operation.as_strategy(mode), st.integers(0, 2**32))
    def fuzz(case: Any, seed: int) -> None:
        choose = random.Random(seed)
        security = str(operation.definition.raw["security"])
        share, header = 0.6, choose.choice([*credentials, *credentials[:1] * 6])
        if choose.random() < 0.5:  # nothing wrong but what schemathesis made
            share, header = 1.0, credentials[XET if "xetToken" in security else WRITE]
        for name in case.path_parameters or {}:
            if name in target.known and choose.random() < share:
                case.path_parameters[name] = choose.choice(target.known[name])
        if "signedUrl" in security and choose.random() < share:
            target.sign(case)
        try:
            answer = case.call(base_url=target.hub.url, headers=header, timeout=_HANG_SECONDS)
        except requests.RequestException as error:
            raise AssertionError(f"{error} at {case!r}") from error
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=CHECKS.get_by_names(_CHECKS))
        documented = operation.definition.raw["responses"]
        says_why = "content" in documented.get(str(answer.status_code), documented["4XX"])
        if answer.status_code >= 400 and says_why and answer.status_code != 422:  # 422 says it line by line
            assert len(answer.json()["error"]) > 10, answer.content

    fuzz()


def _text(error: BaseException) -> str:
    parts = getattr(error, "exceptions", ())
    return f"{error!s:.2000}" + "".join(f"\n{part!r:.1000}" for part in parts)


def test_the_server_still_answers_afterwards(target: Target) -> None:
    target.restore()
    url = f"{target.hub.url}/datasets/{_REPOSITORY}/resolve/main/data/big.bin"
    assert requests.get(url, timeout=_HANG_SECONDS).content == target.content
