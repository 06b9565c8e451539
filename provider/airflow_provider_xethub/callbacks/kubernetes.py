"""Hand a Xet token to the pod of a ``KubernetesPodOperator``: in a Secret that lives no longer than the pod needs it.

Airflow's provider for Kubernetes must be installed: the extra ``kubernetes``. This module has been tried against a
recorder of the Kubernetes API, not on a cluster.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.common.compat.sdk import XComArg

from airflow_provider_xethub.exceptions import XetCancelledError, XetInputError, XetKubernetesError
from airflow_provider_xethub.hooks.errors import fail_task, log_and_continue
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.repo import SCOPES, Scope

if TYPE_CHECKING:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.providers.common.compat.sdk import Context
    from kubernetes.client import CoreV1Api, V1Pod

    from airflow_provider_xethub.xet.token import SealedTokenDict, TokenDocument

log = logging.getLogger(__name__)

FILE_NAME = "token.json"
FILE_VARIABLE = "XETHUB_TOKEN_FILE"
"""Environment variable of the container with the path of the file, never its content."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "airflow-provider-xethub"
EXPIRES_AT = "airflow-provider-xethub/expires-at"
"""Annotation of the Secret: when its token expires."""

_VOLUME = "xethub-token"
_TASK_LABELS = ("dag_id", "task_id", "run_id", "map_index")
"""Labels that ``KubernetesPodOperator`` gives its pods, and by which a later attempt finds what is left of this one."""

_TRIES = 3
_RETRIED = frozenset({429, 500, 502, 503, 504})
_SECRETS = "/api/v1/namespaces/{namespace}/secrets"
# The API server then answers without the content of the Secrets: it must not pass through here, or into a debug log.
_METADATA_ONLY = "application/json;as={};g=meta.k8s.io;v=v1"


class XetTokenSecret(KubernetesPodOperatorCallback):  # type: ignore[misc]  # the same with and without the library
    """Give the pod of a ``KubernetesPodOperator`` a Xet token, as the file ``/run/xethub/token.json``.

    Before the pod is created, the token is put into a Secret of the pod's namespace, which the pod mounts. The pod then
    becomes the owner of the Secret, so that Kubernetes deletes both together, and the Secret is deleted as soon as the
    container has ended, the pod was not created, or the task was stopped. What a killed worker leaves behind is deleted
    by the next pod of the task. The file contains a
    :class:`~airflow_provider_xethub.xet.token.TokenDocument`; the environment variable ``XETHUB_TOKEN_FILE`` of the
    container has its path.

    The service account of Airflow's workers needs the verbs ``create``, ``patch`` and ``delete`` for Secrets; with
    ``list``, too, it deletes what killed workers left.

    Example::

        KubernetesPodOperator(task_id="train", ..., callbacks=[XetTokenSecret(token.output)])

    :param token: the output of a ``XetTokenOperator`` upstream of the pod. ``None``: a token is fetched.
    :param scope: what the token must allow. ``None``: the given token decides, or ``read`` where there is none.
    :param repo_id, repo_type, revision: as for ``XetDownloadOperator``; templates are rendered.
    :param xethub_conn_id: the connection; ``None`` where the worker has none.
    :param mount_path: folder of the container that the file is mounted to.
    :param file_mode: permissions of the file. Kubernetes makes root its owner and ``fs_group`` of the pod's security
        context its group.
    :raises XetInputError: an argument is wrong.
    """

    def __init__(
        self,
        token: SealedTokenDict | XComArg | None = None,
        *,
        scope: Scope | None = None,
        repo_id: str | None = None,
        repo_type: str | None = None,
        revision: str | None = None,
        xethub_conn_id: str | None = XetHubConnection.default_conn_name,
        mount_path: str = "/run/xethub",
        file_mode: int = 0o440,
    ) -> None:
        if scope not in (None, *SCOPES):
            raise XetInputError(f"scope {scope!r:.60} is unknown; use 'read' or 'write'.")
        if not isinstance(mount_path, str) or not PurePosixPath(mount_path).is_absolute() or mount_path == "/":
            raise XetInputError(f"mount_path must be an absolute path in the container, not {mount_path!r:.100}.")
        if isinstance(file_mode, bool) or not isinstance(file_mode, int) or not 0o400 <= file_mode <= 0o777:
            raise XetInputError(f"file_mode must be permissions such as 0o440, not {file_mode!r:.60}.")
        self.token = token
        self.scope = scope
        self.repo_id, self.repo_type, self.revision = repo_id, repo_type, revision
        self.xethub_conn_id = xethub_conn_id
        self.mount_path = mount_path.rstrip("/")
        self.file_mode = file_mode

    # KubernetesPodOperator calls these on the given object, so they need not be static.

    def on_pod_manifest_created(
        self, *, pod_request: V1Pod, client: CoreV1Api, operator: KubernetesPodOperator, context: Context, **_: Any
    ) -> None:
        """Create the Secret, and let the pod mount it.

        :raises XetHubError: there is no token, or Kubernetes refuses the Secret. No pod is created.
        """
        with fail_task(log):
            container = self._container(pod_request, operator)
            document = self._document(operator, context)
            secret = _Secret(client, pod_request.metadata.namespace, _new_name(pod_request))
            # All the ways out of a task that has no pod: KubernetesPodOperator has a callback for none of them.
            _run_after(operator, "on_kill", lambda: secret.delete_on_kill(operator))
            _create(secret, pod_request, document)
            for name in ("on_failure_callback", "on_retry_callback"):
                _add_callback(operator, name, lambda _context: secret.delete())
            _check_not_stopped(operator)
            self._mount(pod_request, container, secret.name)

    def on_pod_creation(self, *, pod: V1Pod | None, client: CoreV1Api, operator: Any, **_: Any) -> None:
        """Make the pod the owner of the Secret, and delete Secrets that earlier attempts left."""
        created = _mounted(operator.pod_request_obj)
        if created:
            _check_not_stopped(operator)
        mounted = _mounted(pod) if pod is not None else created
        if created and created != mounted:
            # The task found a running pod of an earlier attempt, which has a Secret of its own.
            _Secret(client, operator.pod_request_obj.metadata.namespace, created).delete()
        if pod is None:
            return
        if mounted is not None:
            _own(client, pod, mounted)
        with log_and_continue(log, "Secrets of earlier attempts were not searched"):
            _delete_leftovers(client, pod, mounted)

    def on_pod_completion(self, *, pod: V1Pod | None, client: CoreV1Api, **_: Any) -> None:
        """Delete the Secret: the container has ended, or the task does not wait for it any longer."""
        if pod is not None and (name := _mounted(pod)):
            _Secret(client, pod.metadata.namespace, name).delete()

    def on_pod_cleanup(self, *, pod: V1Pod | None, client: CoreV1Api, **_: Any) -> None:
        """Delete the Secret, also that of a pod which was never created."""
        self.on_pod_completion(pod=pod, client=client)

    # --- the token

    def _document(self, operator: KubernetesPodOperator, context: Context) -> TokenDocument:
        repo_id, repo_type, revision = (
            operator.render_template(value, context) if isinstance(value, (str, XComArg)) else value
            for value in (self.repo_id, self.repo_type, self.revision)
        )
        for name, value in (("repo_id", repo_id), ("repo_type", repo_type), ("revision", revision)):
            if getattr(self, name) is not None and value in (None, "", "None"):
                raise XetInputError(f"{operator.task_id}: {name} of XetTokenSecret was rendered to {value!r}.")
        hook = XetHubConnection(self.xethub_conn_id)
        token: Any = self.token
        if isinstance(token, XComArg):
            token = token.resolve(context)
            if token is None:
                tasks = ", ".join(sorted(each.task_id for each, _ in self.token.iter_references()))  # type: ignore[union-attr]
                raise XetInputError(
                    f"Task {tasks} has no token in XCom for the pod. Write {tasks} >> {operator.task_id}, or run "
                    f"{tasks} again."
                )
        if token is None:
            return hook.token_document(scope=self.scope, repo=hook.repo(repo_id, repo_type, revision))
        repo = hook.token_repo(token, repo_id, repo_type, revision) if repo_id or repo_type or revision else None
        return hook.token_document(token, scope=self.scope, repo=repo)

    # --- the pod

    def _container(self, pod_request: V1Pod, operator: KubernetesPodOperator) -> Any:
        """Return the container that gets the token, after checking that nothing else is mounted there."""
        containers = [each for each in pod_request.spec.containers if each.name == operator.base_container_name]
        if not containers:
            raise XetInputError(
                f"The pod has no container {operator.base_container_name!r} to hand the token to. Set "
                "base_container_name to the name of one."
            )
        if any(mount.mount_path.rstrip("/") == self.mount_path for mount in containers[0].volume_mounts or []):
            raise XetInputError(f"The container mounts something else at {self.mount_path}. Choose another mount_path.")
        return containers[0]

    def _mount(self, pod_request: V1Pod, container: Any, secret_name: str) -> None:
        from kubernetes import client as k8s

        source = k8s.V1SecretVolumeSource(secret_name=secret_name, default_mode=self.file_mode)
        volume = k8s.V1Volume(name=_VOLUME, secret=source)
        mount = k8s.V1VolumeMount(name=_VOLUME, mount_path=self.mount_path, read_only=True)
        path = k8s.V1EnvVar(name=FILE_VARIABLE, value=str(PurePosixPath(self.mount_path) / FILE_NAME))
        pod_request.spec.volumes = [*(pod_request.spec.volumes or []), volume]
        container.volume_mounts = [*(container.volume_mounts or []), mount]
        container.env = [*(container.env or []), path]


@dataclass
class _Secret:
    """A Secret that this provider made; ``is_kept``: for a pod that goes on without its task."""

    client: CoreV1Api
    namespace: str
    name: str
    is_kept: bool = False

    def delete(self) -> None:
        """Delete it, if it is still there; what Kubernetes does not delete now, it deletes with its pod."""
        if self.is_kept:
            return
        try:
            _request(self.client, "DELETE", self.namespace, self.name)
        except XetKubernetesError as error:
            if error.status != 404:
                log.warning("%s It is deleted with its pod; its token expires.", error)

    def delete_on_kill(self, operator: Any) -> None:
        """Delete it when the task is stopped, unless its pod is to go on."""
        on_kill_action = getattr(operator, "on_kill_action", None)
        self.is_kept = operator.pod is not None and getattr(on_kill_action, "value", None) == "keep_pod"
        self.delete()


def _check_not_stopped(operator: Any) -> None:
    """End the task if it was stopped meanwhile: ``KubernetesPodOperator`` goes on, and would leave its pod behind.

    :raises XetCancelledError: it was.
    """
    if getattr(operator, "_killed", False):
        operator.on_kill()  # again: now it knows the pod, and Kubernetes the Secret
        raise XetCancelledError(f"Task {operator.task_id} was stopped from outside. Clear it to run it again.")


def _new_name(pod_request: V1Pod) -> str:
    stem = re.sub(r"[^a-z0-9]+$", "", pod_request.metadata.name[:200])
    return f"{stem}-token-{os.urandom(5).hex()}"


def _create(secret: _Secret, pod_request: V1Pod, document: TokenDocument) -> None:
    """Create a Secret with a token.

    :raises XetKubernetesError: Kubernetes refuses it, or does not answer.
    """
    labels = pod_request.metadata.labels
    content = base64.b64encode(json.dumps(document).encode()).decode()
    # The client of Kubernetes may be set to log requests; Airflow masks only what it knows.
    sealing.mask(content)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name,
            "labels": {
                MANAGED_BY: MANAGER,
                **{label: value for label, value in labels.items() if label in _TASK_LABELS},
            },
            "annotations": {EXPIRES_AT: document["expires_at"]},
        },
        "type": "Opaque",
        "immutable": True,
        "data": {FILE_NAME: content},
    }
    try:
        _request(secret.client, "POST", secret.namespace, body=body)
    except XetKubernetesError as error:
        # The name is random: it is ours, of a request whose response was lost.
        if error.status != 409:
            if error.status is None:
                secret.delete()
            raise
    log.info(
        "Created Secret %s in namespace %s with a %s token for %s, which expires at %s.",
        secret.name,
        secret.namespace,
        document["scope"],
        document["repo"],
        document["expires_at"],
    )


def _own(client: CoreV1Api, pod: V1Pod, secret_name: str) -> None:
    """Make a pod the owner of its Secret. Without it, a Secret is still deleted unless the worker is killed."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
    body = {"metadata": {"ownerReferences": [owner]}}
    try:
        _request(client, "PATCH", pod.metadata.namespace, secret_name, body=body)
    except XetKubernetesError as error:
        log.warning("%s The Secret stays behind if this worker is killed.", error)


def _delete_leftovers(client: CoreV1Api, pod: V1Pod, mounted: str | None) -> None:
    """Delete Secrets of this task that have expired, and those of other attempts of this task instance.

    A pod that an earlier attempt created, and that this one found running, still has its own.
    """
    labels = pod.metadata.labels or {}
    selector = f"{MANAGED_BY}={MANAGER}," + ",".join(f"{name}={labels.get(name, '')}" for name in ("dag_id", "task_id"))
    try:
        found = _request(client, "GET", pod.metadata.namespace, query=[("labelSelector", selector)])
    except XetKubernetesError as error:
        log.log(logging.DEBUG if error.status == 403 else logging.WARNING, "%s", error)
        return
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for each in found.get("items") or []:
        metadata = each["metadata"]
        has_expired = (metadata.get("annotations") or {}).get(EXPIRES_AT, "") <= now
        theirs = metadata.get("labels") or {}
        is_same_task_instance = all(theirs.get(name) == labels.get(name) for name in _TASK_LABELS)
        if metadata["name"] != mounted and (has_expired or is_same_task_instance):
            log.info("Deleting Secret %s, which an earlier attempt left.", metadata["name"])
            _Secret(client, pod.metadata.namespace, metadata["name"]).delete()


def _mounted(pod: V1Pod) -> str | None:
    """Return the name of the Secret of ours that a pod mounts."""
    volumes = (pod.spec and pod.spec.volumes) or []
    return next((each.secret.secret_name for each in volumes if each.name == _VOLUME and each.secret), None)


def _run_after(operator: Any, name: str, work: Callable[[], None]) -> None:
    """Let a method of this operator do something more; ``KubernetesPodOperator`` has no callback for it."""
    method = getattr(operator, name)

    @functools.wraps(method)
    def both(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        finally:
            work()

    setattr(operator, name, both)


def _add_callback(operator: Any, name: str, callback: Callable[[Any], None]) -> None:
    """Add one of Airflow's own callbacks; it runs in this process, and only in this attempt."""
    before = getattr(operator, name, None) or []
    setattr(operator, name, [*([before] if callable(before) else before), callback])


def _request(
    client: CoreV1Api,
    method: str,
    namespace: str,
    name: str = "",
    *,
    body: Mapping[str, Any] | None = None,
    query: list[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Send a request about Secrets, and return the response: metadata only, never the content of a Secret.

    :raises XetKubernetesError: Kubernetes refuses it, or does not answer.
    """
    from kubernetes.client.exceptions import ApiException
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
    from urllib3.exceptions import HTTPError

    listing = method == "GET"
    headers = {"Accept": _METADATA_ONLY.format("PartialObjectMetadataList" if listing else "PartialObjectMetadata")}
    if body is not None:
        headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
    retrying = Retrying(
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(0.2, max=2),
        retry=retry_if_exception(lambda error: not isinstance(error, ApiException) or error.status in _RETRIED),
        reraise=True,
    )
    try:
        response = retrying(
            client.api_client.call_api,
            _SECRETS + ("/{name}" if name else ""),
            method,
            path_params={"namespace": namespace, **({"name": name} if name else {})},
            query_params=query or [],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=False,
            _request_timeout=(10, 30),
        )
        answer = json.loads(response.data)
    except ApiException as error:
        raise XetKubernetesError(_refusal(method, namespace, name, error), status=error.status) from None
    except (HTTPError, OSError, ValueError) as error:
        # Without its text: it may have been made of the request.
        text = f"Kubernetes did not answer a request for Secrets in namespace {namespace}: {type(error).__name__}."
        raise XetKubernetesError(text) from None
    return answer if isinstance(answer, dict) else {}


_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "list"}


def _refusal(method: str, namespace: str, name: str, error: Any) -> str:
    verb = _VERBS[method]
    what = f"Kubernetes refused to {verb} {'Secrets' if not name else 'Secret ' + name} in namespace {namespace}"
    if error.status == 403:
        return f"{what} (403). Allow the service account of Airflow's workers to {verb} secrets there."
    return f"{what} ({error.status} {error.reason})."
