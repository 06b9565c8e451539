"""As much of the Kubernetes API as ``KubernetesPodOperator`` needs to run a pod to its end, recorded, on loopback.

It is written after the public reference of the API, and is no cluster: it knows pods and Secrets of one namespace, runs
the first container of a pod as a process of this machine, and mounts Secrets as files at the real path. As a cluster
does, it refuses invalid names, labels and owner references, deletes what a deleted pod owns, keeps a pod pending while
the Secret it mounts does not exist, and answers with metadata only where the client asks for
``PartialObjectMetadata``.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NAMESPACE = "jobs"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True)
class Request:
    """A request that arrived; ``verb`` is that of Kubernetes, such as ``create`` or ``list``."""

    verb: str
    resource: str
    name: str
    query: dict[str, str]
    body: bytes
    answer: bytes = b""
    status: int = 200

    @property
    def what(self) -> str:
        return f"{self.verb} {self.resource}"


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        }


@dataclass
class _Container:
    process: subprocess.Popen[bytes] | None = None
    log: list[bytes] = field(default_factory=list)
    mounts: list[Path] = field(default_factory=list)


class KubernetesApi:
    """Serves on loopback while its context lasts.

    :param folder: where its kubeconfig and the output of containers are.
    :ivar requests: the requests so far.
    :ivar denied: requests that RBAC refuses, such as ``patch secrets``.
    :ivar failing: answers of the server instead of the work, by request: how often, and the status.
    :ivar before: called before a request is answered, by request; it may block.
    :ivar pods_start: whether pods leave ``Pending``.
    """

    def __init__(self, folder: Path) -> None:
        self.requests: list[Request] = []
        self.denied: set[str] = set()
        self.failing: dict[str, list[int]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.pods_start = True
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"pods": {}, "secrets": {}}
        self.deleted: list[dict[str, Any]] = []
        self._containers: dict[str, _Container] = {}
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.config = folder / "kubeconfig"
        self.config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [{"name": "test", "cluster": {"server": self.url}}],
                    "users": [{"name": "test", "user": {"token": "kubernetes-token"}}],
                }
            )
        )

    def __enter__(self) -> KubernetesApi:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for name in list(self.objects["pods"]):
            self._delete("pods", name)

    # --- what a test asks

    @property
    def secrets(self) -> dict[str, dict[str, Any]]:
        return self.objects["secrets"]

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        return self.objects["pods"]

    def did(self, *resources: str) -> list[str]:
        """Return the requests that changed something, in order."""
        reading = ("get", "list", "log")
        return [r.what for r in self.requests if r.verb not in reading and r.status < 300]

    @contextmanager
    def paused(self, what: str) -> Iterator[threading.Event]:
        """Hold requests before they are answered, for a client to be killed meanwhile; the event says that one came."""
        came, go = threading.Event(), threading.Event()

        def wait() -> None:
            came.set()
            go.wait(60)

        self.before[what] = wait
        try:
            yield came
        finally:
            del self.before[what]
            go.set()

    # --- the API

    def answer(self, verb: str, resource: str, name: str, query: dict[str, str], body: bytes, accept: str) -> Any:
        what = f"{verb} {resource}"
        if before := self.before.get(what):
            before()
        if what in self.denied:
            raise _Refused(403, "Forbidden", f'{resource} is forbidden: User "airflow" cannot {verb} resource')
        if statuses := self.failing.get(what):
            raise _Refused(statuses.pop(0), "InternalError", "the server is unwell")
        given = json.loads(body) if body and verb in ("create", "patch") else {}
        with self._lock:
            found = self._work(verb, resource, name, query, given)
        return _metadata_only(found) if "as=PartialObjectMetadata" in accept.partition(",")[0] else found

    def _work(self, verb: str, resource: str, name: str, query: dict[str, str], given: dict[str, Any]) -> Any:
        objects = self.objects[resource]
        if verb == "list":
            matching = [each for each in objects.values() if _selected(each, query.get("labelSelector", ""))]
            kind = "PodList" if resource == "pods" else "SecretList"
            return {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": matching}
        if verb == "create":
            name = given["metadata"]["name"]
            _check(given)
            if name in objects:
                raise _Refused(409, "AlreadyExists", f'{resource} "{name}" already exists')
            given["metadata"] |= {
                "uid": str(uuid.uuid4()),
                "namespace": NAMESPACE,
                "creationTimestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "resourceVersion": "1",
            }
            objects[name] = given
            if resource == "pods":
                self._schedule(given)
            return given
        if name not in objects:
            raise _Refused(404, "NotFound", f'{resource} "{name}" not found')
        if verb == "patch":
            changed = _merged(objects[name], given)
            _check(changed)
            objects[name] = changed
        if verb == "delete":
            return self._delete(resource, name)
        return objects[name]

    def _delete(self, resource: str, name: str) -> dict[str, Any]:
        with self._lock:
            gone = self.objects[resource].pop(name, {})
            self.deleted.append(gone)
            if resource == "pods" and gone:
                self._stop(name)
                for each in list(self.secrets.values()):
                    owners = each["metadata"].get("ownerReferences", [])
                    if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                        self._delete("secrets", each["metadata"]["name"])
        return gone

    # --- the node

    def _schedule(self, pod: dict[str, Any]) -> None:
        pod["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
        self._containers[pod["metadata"]["name"]] = _Container()
        threading.Thread(target=self._run, args=(pod["metadata"]["name"],), daemon=True).start()

    def _run(self, name: str) -> None:
        container = self._containers[name]
        while not (self.pods_start and self._mount(name, container)):
            if name not in self.pods:
                return
            time.sleep(0.01)
        spec = self.pods[name]["spec"]["containers"][0]
        env = {each["name"]: each.get("value", "") for each in spec.get("env") or []}
        process = subprocess.Popen(
            [*(spec.get("command") or []), *(spec.get("args") or [])],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        container.process = process
        self._state(name, "Running", {"running": {"startedAt": _now()}})
        assert process.stdout
        container.log.extend(iter(process.stdout.readline, b""))
        process.stdout.close()
        code = process.wait()
        phase = "Failed" if code else "Succeeded"
        self._state(name, phase, {"terminated": {"exitCode": code, "finishedAt": _now()}})

    def _mount(self, name: str, container: _Container) -> bool:
        """Write what the pod's Secrets contain to where it mounts them, if all exist."""
        with self._lock:
            pod = self.pods.get(name)
            if pod is None:
                return False
            volumes = {each["name"]: each.get("secret") for each in pod["spec"].get("volumes") or []}
            wanted = [
                (Path(mount["mountPath"]), volumes[mount["name"]])
                for mount in pod["spec"]["containers"][0].get("volumeMounts") or []
                if volumes.get(mount["name"])
            ]
            if any(volume["secretName"] not in self.secrets for _, volume in wanted):
                return False
            for path, volume in wanted:
                # A pod that is kept stays where it was mounted: here, both are folders of one machine.
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir(parents=True)
                container.mounts.append(path)
                for key, value in self.secrets[volume["secretName"]]["data"].items():
                    (path / key).write_bytes(base64.b64decode(value))
                    (path / key).chmod(volume.get("defaultMode", 0o644))
        return True

    def _state(self, name: str, phase: str, state: dict[str, Any]) -> None:
        with self._lock:
            if pod := self.pods.get(name):
                container = pod["spec"]["containers"][0]
                status = {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "restartCount": 0,
                    "ready": phase == "Running",
                    "state": state,
                }
                self.pods[name] = {**pod, "status": {**pod["status"], "phase": phase, "containerStatuses": [status]}}

    def _stop(self, name: str) -> None:
        container = self._containers[name]
        if container.process and container.process.poll() is None:
            container.process.kill()
            container.process.wait()
        for path in container.mounts:
            shutil.rmtree(path, ignore_errors=True)

    def log_of(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a container's log, with the time, until it ends."""
        sent, container = 0, self._containers[name]
        while True:
            status = self.pods.get(name, {}).get("status", {})
            while sent < len(container.log):
                yield f"{_now()} ".encode() + container.log[sent]
                sent += 1
            if status.get("phase") != "Running":
                return
            time.sleep(0.01)


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts = url.path.strip("/").split("/")
            query = dict(parse_qsl(url.query))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            resource, name, *further = (*parts[4:], "", "")[:3]
            verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(self.command, "get" if name else "list")
            if further == ["log"]:
                return self._log(name)
            if resource == "events":
                return self._send(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
            try:
                if parts[:4] != ["api", "v1", "namespaces", NAMESPACE] or resource not in api.objects:
                    raise _Refused(404, "NotFound", f"the server could not find {url.path}")
                status, found = 200, api.answer(verb, resource, name, query, body, self.headers.get("Accept", ""))
                status = 201 if verb == "create" else 200
            except _Refused as error:
                status, found = error.status, error.body
            answer = json.dumps(found).encode()
            api.requests.append(Request(verb, resource, name, query, body, answer, status))
            return self._send(status, found)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def _send(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _log(self, name: str) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in api.log_of(name):
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check(given: dict[str, Any]) -> None:
    metadata = given["metadata"]
    problems = [] if _NAME.fullmatch(metadata["name"]) and len(metadata["name"]) <= 253 else ["metadata.name"]
    for key, value in (metadata.get("labels") or {}).items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            problems.append(f"metadata.labels: {key}={value}")
    for owner in metadata.get("ownerReferences") or []:
        if not all(owner.get(name) for name in ("apiVersion", "kind", "name", "uid")):
            problems.append("metadata.ownerReferences")
    if problems:
        raise _Refused(422, "Invalid", f"{given.get('kind')} is invalid: {', '.join(problems)}")


def _merged(old: Any, new: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _selected(each: dict[str, Any], selector: str) -> bool:
    labels = each["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, separator, value = re.fullmatch(r"(!?[^!=]+)(!=|==|=|)(.*)", part).groups()  # type: ignore[union-attr]
        if not separator:
            holds = name[1:] not in labels if name.startswith("!") else name in labels
        else:
            holds = (labels.get(name) != value) if separator == "!=" else labels.get(name) == value
        if not holds:
            return False
    return True


def _metadata_only(found: dict[str, Any]) -> dict[str, Any]:
    if "items" in found:
        items = [_metadata_only(each) for each in found["items"]]
        return {**found, "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "items": items}
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"]}
