"""Plain JSON values that operators, sensors and the hook return, accept and pass through XCom."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from airflow_provider_xethub.xet.identifiers import COMMIT_ID

IN_MEMORY = 10_000
"""Files of an upload or commit that are in memory at a time. Of more, all are kept on disk and processed in batches."""


class _XetFile(TypedDict):
    path: str
    size: int
    sha256: str | None
    xet_hash: str | None
    repo: str


class XetFile(_XetFile, total=False):
    """A file record.

    ``path`` in the repository, ``size`` in bytes, ``sha256`` and ``xet_hash`` in hex (``None`` where the Hub stores the
    file inline instead of in CAS), ``repo`` as ``hf://`` URI. An upload adds what a commit needs to decide about the
    file: ``sample``, in base64 a placeholder for its first bytes that is text or binary like them, ``sealed_sample``,
    the first 512 bytes, sealed, where this worker has a key, and for object storage ``storage_uri``, the source. A
    listing adds ``blob_id``, the git sha1, for inline files, and on request ``sealed_content``, which a worker without
    the connection opens. A download adds ``local_path``, or for object storage ``storage_uri``; the operators accept
    either as ``source``.
    """

    sample: str
    sealed_sample: str
    blob_id: str
    sealed_content: str
    local_path: str
    storage_uri: str


def no_transfer() -> XetTransfer:
    """Return the figures of a transfer that did not have to move anything."""
    return {"files": 0, "bytes": 0, "bytes_sent": 0, "bytes_deduplicated": 0, "seconds": 0.0}


def xet_file_record(
    path: str,
    size: int,
    repo: str,
    *,
    sha256: str | None = None,
    xet_hash: str | None = None,
    sample: bytes | None = None,
    blob_id: str | None = None,
    storage_uri: str | None = None,
) -> XetFile:
    """Build a file record; what is ``None`` and optional is left out.

    :param repo: the ``hf://`` URI of the repository.
    :param sample: the first bytes of the file.
    :param sha256, xet_hash, blob_id, storage_uri: see :class:`XetFile`.
    """
    record: XetFile = {"path": path, "size": size, "sha256": sha256, "xet_hash": xet_hash, "repo": repo}
    if sample is not None:
        record["sample"] = base64.b64encode(sample).decode()
    if blob_id is not None:
        record["blob_id"] = blob_id
    if storage_uri is not None:
        record["storage_uri"] = storage_uri
    return record


def published_record(file: XetFile, repo: str) -> XetFile:
    """Return the record of a file after it was published, without what only a later commit needs.

    :param repo: the ``hf://`` URI of the repository and revision that now has it.
    """
    record = file.copy()
    record.pop("sample", None)
    record.pop("sealed_sample", None)
    record.pop("sealed_content", None)
    record.pop("storage_uri", None)
    record["repo"] = repo
    return record


def pinned_record(file: XetFile, repo: str) -> XetFile:
    """Return the record of a published file as a listing of its commit has it.

    A file that the Hub stores inline has no Xet hash there, though it may have been uploaded to CAS before: nothing in
    the repository refers to that upload, so CAS need not keep it.

    :param repo: the ``hf://`` URI of the repository at the commit.
    """
    record = published_record(file, repo)
    if record.get("blob_id"):
        record["xet_hash"] = None
    return record


def is_pinned(file: XetFile) -> bool:
    """Return whether the record names a commit, so that it always means the same file."""
    return COMMIT_ID.fullmatch(file["repo"].rpartition("@")[2]) is not None


class _XetManifest(TypedDict):
    manifest: Literal["listing", "cas", "storage"]
    repo: str
    file_count: int
    bytes: int


class XetManifest(_XetManifest, total=False):
    """Many file records by reference: what a task returns instead of a list that is too long for XCom.

    ``manifest`` says where the records are, ``repo`` is their repository as ``hf://`` URI, ``file_count`` and ``bytes``
    count all of them. Everything that takes ``files`` takes a manifest, too.

    ``listing``: they are listed again. ``repo`` names the commit, and the file or folder ``path`` with the
    ``patterns`` is what was chosen; or ``folders``, of which one with a slash at the end includes its subfolders.
    ``digest`` is a sha256 over all records, whatever their order.
    ``cas``: they are gzip-compressed JSON lines in CAS, with this ``xet_hash``, ``sha256`` and ``size`` in bytes.
    ``storage``: the same lines, as the object ``uri`` below ``[xethub] manifest_storage``.

    ``destination`` is the folder that a download put the files into, below which they have their paths.
    """

    path: str | None
    patterns: list[str] | None
    folders: list[str]
    digest: str
    xet_hash: str
    sha256: str
    size: int
    uri: str
    destination: str


class XetCommit(TypedDict):
    """A commit: ``oid`` (40 hex), ``url``, ``repo`` as ``hf://`` URI, ``title`` and ``description`` of the message.

    For a bucket, which has no commits, ``oid`` is empty and ``url`` is that of the bucket.
    """

    oid: str
    url: str
    repo: str
    title: str
    description: str


class XetCommitResult(XetCommit):
    """What publishing returns.

    ``files`` as they are in that commit, ``deleted`` paths, the paths among ``files`` that were ``unchanged``, and
    ``created``: ``False`` where everything existed already, so that ``oid`` is an existing commit.
    ``pull_request`` is its URL, or ``None``. ``commits`` are all commits that were made, in order: usually one, several
    where the limits of the Hub require it (the result describes the last), none in a bucket or where nothing changed.
    ``pull_request_number`` is the number in that URL, or ``None``.

    In XCom, more than ``[xethub] manifest_files`` records of ``files`` are a :class:`XetManifest`, and so many paths in
    ``unchanged`` are the manifest of their records. ``deleted`` then names the first 100 paths, and ``deleted_count``
    counts all. The hook returns any number of files as a sequence that is kept on disk.
    """

    files: list[XetFile]
    deleted: list[str]
    unchanged: list[str]
    created: bool
    pull_request: str | None
    pull_request_number: int | None
    commits: list[XetCommit]


def changed_files(result: XetCommitResult) -> Iterator[XetFile]:
    """Yield the records of new and changed files of a commit."""
    unchanged = result["unchanged"]
    # Of many files, the paths are on disk, with a fast test.
    known = set(unchanged) if isinstance(unchanged, (list, tuple)) else unchanged
    return (file for file in result["files"] if file["path"] not in known)


class XetScanResult(XetCommit):
    """A commit whose files the Hub's security scan found safe.

    ``file_count`` selected files with ``bytes`` of content; ``scanned_count`` is lower where the Hub reports no scan of
    some, which ``missing_scan="accept"`` allows.
    """

    file_count: int
    scanned_count: int
    bytes: int


class XetPullRequest(TypedDict):
    """A pull request: its ``number``, ``url``, ``repo`` as ``hf://`` URI at ``refs/pr/N``, ``title`` and ``status``.

    ``status`` is ``draft``, ``open``, ``merged`` or ``closed``. ``base`` is the branch that it is to be merged into.
    ``conflicts`` are the paths that conflict with that branch; ``True`` where there are some, but the Hub lists none.
    """

    number: int
    url: str
    repo: str
    title: str
    status: Literal["draft", "open", "merged", "closed"]
    base: str
    conflicts: list[str] | bool


class XetChanges(TypedDict):
    """What changed: the records of new and changed ``files``, and the ``deleted`` paths.

    A deleted path with a slash at the end is a folder with everything in it.
    """

    files: list[XetFile]
    deleted: list[str]


class XetRepo(TypedDict):
    """A repository or bucket that was created or changed.

    ``repo`` as ``hf://`` URI, ``url`` of its page, ``visibility`` (``private``, ``public`` or ``protected``), ``gated``
    (``False``, ``auto`` or ``manual``; ``None`` for a Space and a bucket), whether this call ``created`` it, and
    whether it ``changed`` settings.
    """

    repo: str
    url: str
    visibility: Literal["private", "public", "protected"]
    gated: Literal["auto", "manual", False] | None
    created: bool
    changed: bool


class XetRef(TypedDict):
    """A branch or tag: its ``kind`` and ``name``, ``oid`` of its commit, ``repo`` as ``hf://`` URI at this revision.

    ``url`` is its page, and ``created`` whether this call created it.
    """

    kind: Literal["branch", "tag"]
    name: str
    oid: str
    repo: str
    url: str
    created: bool


class XetDeletion(TypedDict):
    """What was deleted: ``repo`` as ``hf://`` URI, and the ``name`` of the branch or tag; ``None``: the repository.

    ``deleted`` is ``False`` where it was missing already.
    """

    repo: str
    name: str | None
    deleted: bool


class XetSquashResult(XetCommit):
    """A branch after its history was squashed: its commit, the ``previous`` commit id, and whether it ``changed``.

    Where the branch had one commit already, ``previous`` is ``None`` and ``changed`` is ``False``.
    """

    previous: str | None
    changed: bool


class XetStoredFile(TypedDict):
    """Content that a repository stores: one ``path`` it had or ``None``, ``size`` in bytes, ``sha256``, ``pushed_at``.

    ``pushed_at`` is an ISO 8601 timestamp.
    """

    path: str | None
    size: int
    sha256: str
    pushed_at: str


class XetCleanup(TypedDict):
    """Content that no branch, tag or pull request refers to.

    ``files`` are at most 100 of it, the largest first; ``file_count`` and ``bytes`` count all of it. ``dry_run`` says
    whether it was only listed, ``deleted`` whether it was deleted, and ``kept`` how many stored files are in use.
    """

    repo: str
    dry_run: bool
    deleted: bool
    files: list[XetStoredFile]
    file_count: int
    bytes: int
    kept: int


class XetAssetEvent(TypedDict):
    """The extra of an asset event: what it says about a commit.

    ``oid``, ``url`` and ``repo`` of the commit, whether it was ``created``, and its ``pull_request`` or ``None``.
    ``files`` are the records of new and changed files of the asset, at most 100; ``file_count`` and ``bytes`` count all
    of them. ``deleted`` are deleted paths, at most 100; ``deleted_count`` counts all. ``complete`` says whether both
    lists contain all; if not, ``files_of`` gets the others from the Hub: from the ``commits`` that were made, usually
    one, in the folder ``path``, which contains all changes.

    The ``repo`` of each record names that commit, so that whatever is committed later, it stays the same file.
    """

    oid: str
    url: str
    repo: str
    created: bool
    pull_request: str | None
    files: Sequence[XetFile]
    file_count: int
    bytes: int
    deleted: Sequence[str]
    deleted_count: int
    complete: bool
    path: str
    commits: Sequence[str]


class XetTransfer(TypedDict):
    """The figures of an upload.

    ``files``, ``bytes`` of content, ``bytes_sent`` over the network, ``bytes_deduplicated`` (content that CAS
    already had), ``seconds``.
    """

    files: int
    bytes: int
    bytes_sent: int
    bytes_deduplicated: int
    seconds: float


class XetUploadResult(TypedDict):
    """What an upload returns: the ``files`` and the figures of the ``transfer``."""

    files: list[XetFile]
    transfer: XetTransfer


class XetPublishResult(XetCommitResult):
    """What an upload with its commit returns: the commit, and the figures of the ``transfer``."""

    transfer: XetTransfer


class XetCopied(TypedDict):
    """The figures of a copy.

    ``files`` and ``bytes`` that were copied, and how many ``inline_files`` and ``inline_bytes`` of these had to be read
    and written because the source does not have them in CAS. Files that existed already are not counted.
    """

    files: int
    bytes: int
    inline_files: int
    inline_bytes: int


class XetCopyResult(XetCommitResult):
    """What a copy returns: the commit, and the figures of what was ``copied``."""

    copied: XetCopied


class XetReceived(TypedDict):
    """The figures of a download.

    ``files`` and ``bytes`` that were fetched and verified, ``bytes_received`` over the network, files ``skipped``
    because they existed already, ``seconds``.
    """

    files: int
    bytes: int
    bytes_received: int
    skipped: int
    seconds: float


class _XetDownloadResult(TypedDict):
    files: list[XetFile]
    transfer: XetReceived


class XetDownloadResult(_XetDownloadResult, total=False):
    """What a download returns: ``files`` with ``local_path`` or ``storage_uri``, and figures of the ``transfer``.

    In the Hugging Face cache, ``snapshot`` is the folder that ``from_pretrained`` takes.
    """

    snapshot: str


class _XetMirrorPlan(TypedDict):
    repo: str
    oid: str
    added: list[str]
    changed: list[str]
    removed: list[str]
    kept: list[str]
    unchanged: int
    bytes: int


class XetMirrorPlan(_XetMirrorPlan, total=False):
    """What a mirror changes. All paths are paths in the repository.

    ``repo`` as ``hf://`` URI, and ``oid``, the commit that was compared; empty for a bucket. ``added``, ``changed`` and
    ``removed`` are paths, and ``kept`` are those that were not removed: protected ones, and in a destination those that
    were edited since an earlier mirror put them there. ``unchanged`` counts the other files. ``bytes`` is the size of
    added and changed files: the most that is transferred, because CAS may have parts of them.

    In XCom, a list of more than ``[xethub] manifest_files`` paths has the first 100 only, and ``added_count``,
    ``changed_count``, ``removed_count`` or ``kept_count`` counts all. The hook returns all paths.
    """

    added_count: int
    changed_count: int
    removed_count: int
    kept_count: int


class XetMirrorResult(XetPublishResult):
    """What mirroring a source to a repository returns: the commit, the ``transfer``, and the ``plan`` that was made.

    ``files`` are the added and changed files only, and ``deleted`` the removed ones. A retry that finds nothing to do
    describes what the commit of the earlier attempt changed. For a bucket, which has no commits, the files of a retry
    are all that the bucket and the source have in common; ``unchanged`` are those that this attempt found.
    """

    plan: XetMirrorPlan


class XetMirrorDownload(_XetDownloadResult):
    """What mirroring a repository to a destination returns.

    ``files`` are the added and changed files only, with ``local_path`` or ``storage_uri``; in XCom, many of them are a
    :class:`XetManifest` if there is an ``[xethub] manifest_storage``. ``removed`` in the ``plan`` are those that were
    removed.
    """

    plan: XetMirrorPlan
