"""Schemas of the Hub routes for the OpenAPI document, by route function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xethub_local.openapi.operation import (
    BINARY,
    BYTES,
    FLAG,
    FORM,
    HASH,
    JSON,
    LFS_JSON,
    NDJSON,
    NUMBER,
    TEXT,
    TIME,
    Operation,
    choice,
    fields,
    listed,
)

_PAGE = {"limit": NUMBER, "cursor": NUMBER}
_LFS_OBJECT = fields({"oid": HASH, "size": NUMBER})
_REPOSITORY = fields(
    {"id": TEXT, "author": TEXT, "sha": TEXT, "lastModified": TIME, "createdAt": TIME, "private": FLAG},
    {"siblings": listed(fields({"rfilename": TEXT}, {"size": NUMBER, "blobId": TEXT}))},
)
_REMARK = fields({"message": TEXT})
_FILTERS = dict.fromkeys(("author", "filter", "gated", "library", "pipeline_tag", "search", "sort", "direction"), TEXT)
_NEW_REPOSITORY = fields(
    {"name": TEXT},
    {
        "organization": TEXT,
        "type": choice("model", "dataset", "space"),
        "private": FLAG,
        "visibility": choice("public", "private"),
    },
)
_SCAN = fields({"status": TEXT})
_ENTRY = fields(
    {"type": choice("file", "directory"), "oid": TEXT, "size": NUMBER, "path": TEXT},
    {
        "lfs": _LFS_OBJECT,
        "xetHash": HASH,
        "lastCommit": fields({"id": TEXT, "title": TEXT, "date": TIME}),
        "securityFileStatus": fields({"status": TEXT, "avScan": _SCAN, "pickleImportScan": _SCAN}),
    },
)
_PATHS = fields({"paths": listed(TEXT)}, {"expand": FLAG})
_COMMIT = fields({"id": TEXT, "title": TEXT, "message": TEXT, "date": TIME, "authors": listed(fields({"user": TEXT}))})
_DISCUSSION = fields(
    {"num": NUMBER, "title": TEXT, "status": choice("open", "closed", "merged", "draft"), "createdAt": TIME},
    {"isPullRequest": FLAG, "events": listed(fields({"id": TEXT, "type": TEXT, "createdAt": TIME}))},
)
_EVENT = fields({"id": TEXT, "type": TEXT, "createdAt": TIME})
_GATE_STATUS = choice("pending", "accepted", "rejected")
_REF = fields({"name": TEXT, "ref": TEXT, "targetCommit": TEXT})
_TOKEN_EXCHANGE = fields({"grant_type": TEXT, "subject_token_type": TEXT, "subject_token": TEXT, "resource": TEXT})
_XET_TOKEN = fields({"accessToken": TEXT, "exp": NUMBER, "casUrl": TEXT})
_BUCKET = fields({"id": TEXT, "private": FLAG, "createdAt": TIME, "size": NUMBER, "totalFiles": NUMBER})
_BUCKET_FILE = fields(
    {"type": choice("file", "directory"), "path": TEXT, "uploadedAt": TIME},
    {"size": NUMBER, "xetHash": HASH, "mtime": TIME},
)
_FILE_HEADERS = {"Range": TEXT, "If-Range": TEXT, "If-Match": TEXT, "If-None-Match": TEXT}
_FILE = Operation(BYTES, "*/*", (200, 206, 304), query={"noContentDisposition": FLAG}, headers=_FILE_HEADERS)
_OK = Operation(media_type="")  # the body is the word OK
_NDJSON_BODY = {NDJSON: TEXT}

HUB_OPERATIONS: Mapping[str, Operation] = {
    "app._no_harnesses": Operation(status=(), credential="none"),
    # exchanging ID tokens
    "hub.token_exchange.exchange": Operation(
        fields({"access_token": TEXT, "token_type": TEXT, "expires_in": NUMBER, "issued_token_type": TEXT}),
        body={JSON: _TOKEN_EXCHANGE, FORM: _TOKEN_EXCHANGE},
        credential="none",
    ),
    "hub.token_exchange.discover": Operation(fields({"issuer": TEXT, "jwks_uri": TEXT}), credential="none"),
    "hub.token_exchange.list_keys": Operation(
        fields({"keys": listed(fields({"kty": TEXT, "kid": TEXT, "alg": TEXT, "use": TEXT}))}), credential="none"
    ),
    # repositories
    "hub.repositories.who_am_i": Operation(fields({"type": TEXT, "name": TEXT, "auth": fields({"type": TEXT})})),
    "hub.cards.validate_yaml": Operation(
        fields({"errors": listed(_REMARK), "warnings": listed(_REMARK)}),
        body={JSON: fields({"content": TEXT}, {"repoType": choice("model", "dataset", "space")})},
    ),
    "hub.repositories.create": Operation(
        fields({"url": TEXT, "name": TEXT, "id": TEXT, "private": FLAG}), body={JSON: _NEW_REPOSITORY}
    ),
    "hub.repositories.delete": Operation(media_type="", body={JSON: _NEW_REPOSITORY}),
    "hub.repositories.move": Operation(
        media_type="",
        body={JSON: fields({"fromRepo": TEXT, "toRepo": TEXT}, {"type": choice("model", "dataset", "space")})},
    ),
    "hub.repositories.list_all": Operation(listed(_REPOSITORY), query={**_PAGE, **_FILTERS}),
    "hub.repositories.describe": Operation(_REPOSITORY, query={"blobs": FLAG, "securityStatus": FLAG}),
    "hub.repositories.list_storage": Operation(
        listed(fields({"id": TEXT, "type": TEXT, "updatedAt": TIME, "visibility": TEXT, "storage": NUMBER})),
        query=_PAGE,
    ),
    "hub.large_files.lfs_files": Operation(
        listed(fields({"fileOid": TEXT, "filename": TEXT, "oid": HASH, "size": NUMBER})), query=_PAGE
    ),
    "hub.large_files.delete_lfs_files": Operation(
        fields({}), body={JSON: fields({"deletions": fields({"sha": listed(TEXT)}, {"rewriteHistory": FLAG})})}
    ),
    "hub.repositories.duplicate": Operation(
        fields({"url": TEXT, "filesCopyPending": FLAG}),
        body={JSON: fields({"repository": TEXT}, {"private": FLAG, "visibility": choice("public", "private")})},
    ),
    "hub.repositories.settings": Operation(
        fields({"private": FLAG}), body={JSON: fields({}, {"private": FLAG, "visibility": choice("public", "private")})}
    ),
    "hub.repositories.auth_check": Operation(fields({})),
    "hub.refs.refs": Operation(
        fields(
            {"branches": listed(_REF), "converts": listed(_REF), "tags": listed(_REF)}, {"pullRequests": listed(_REF)}
        ),
        query={"include_prs": FLAG},
    ),
    "hub.refs.create_branch": Operation(
        media_type="", body={JSON: fields({}, {"startingPoint": TEXT, "overwrite": FLAG})}
    ),
    "hub.refs.delete_branch": _OK,
    "hub.refs.create_tag": Operation(media_type="", body={JSON: fields({"tag": TEXT}, {"message": TEXT})}),
    "hub.refs.delete_tag": _OK,
    "hub.refs.commits": Operation(listed(_COMMIT), query={**_PAGE, "expand": choice("formatted")}),
    "hub.refs.squash": Operation(media_type="", body={JSON: fields({}, {"message": TEXT})}),
    # content of repositories
    "hub.listing.tree": Operation(listed(_ENTRY), query={**_PAGE, "recursive": FLAG, "expand": FLAG}),
    "hub.listing.paths_info": Operation(listed(_ENTRY), body={JSON: _PATHS, FORM: _PATHS}),
    "hub.listing.preupload": Operation(
        fields({"files": listed(fields({"path": TEXT, "uploadMode": choice("lfs", "regular")})), "commitOid": TEXT}),
        body={
            JSON: fields(
                {"files": listed(fields({"path": TEXT, "size": NUMBER}, {"sample": TEXT}))}, {"gitAttributes": TEXT}
            )
        },
        query={"create_pr": FLAG},
    ),
    "hub.files.read_token": Operation(_XET_TOKEN),
    "hub.files.write_token": Operation(_XET_TOKEN, query={"create_pr": FLAG}),
    "hub.files.resolve": _FILE,
    "hub.files.raw": _FILE,
    # large files
    "hub.lfs.batch": Operation(
        fields({"transfer": choice("basic", "multipart", "xet"), "objects": listed(_LFS_OBJECT)}),
        LFS_JSON,
        body={
            LFS_JSON: fields(
                {"operation": choice("upload", "download"), "objects": listed(_LFS_OBJECT)},
                {"transfers": listed(TEXT), "ref": fields({"name": TEXT})},
            )
        },
    ),
    "hub.lfs.upload": Operation(
        media_type="", body={BINARY: BYTES}, query={"size": NUMBER, "expires": NUMBER}, credential="signed"
    ),
    "hub.lfs.upload_part": Operation(
        media_type="", body={BINARY: BYTES}, query={"size": NUMBER, "expires": NUMBER}, credential="signed"
    ),
    "hub.lfs.complete": Operation(
        _LFS_OBJECT,
        LFS_JSON,
        body={LFS_JSON: fields({"parts": listed(fields({"partNumber": NUMBER, "etag": TEXT}))})},
        query={"size": NUMBER, "part": NUMBER, "expires": NUMBER},
        credential="signed",
    ),
    "hub.lfs.download": replace(_FILE, query={"size": NUMBER, "expires": NUMBER}, credential="signed"),
    "hub.lfs.verify": Operation(_LFS_OBJECT, LFS_JSON, body={LFS_JSON: _LFS_OBJECT}),
    # commits and pull requests
    "hub.commits.commit": Operation(
        fields({"success": FLAG, "commitOid": TEXT, "commitUrl": TEXT}, {"pullRequestUrl": TEXT}),
        body=_NDJSON_BODY,
        query={"create_pr": FLAG},
    ),
    "hub.commits.duplicate": Operation(
        fields({"failed": listed(fields({"sha256": TEXT, "error": TEXT}))}),
        body={
            JSON: fields({"target": fields({"type": TEXT, "name": TEXT}), "files": listed(fields({"sha256": HASH}))})
        },
    ),
    "hub.discussions.list_discussions": Operation(
        fields({"discussions": listed(_DISCUSSION), "count": NUMBER, "start": NUMBER}),
        query={"p": NUMBER, "type": choice("all", "discussion", "pull_request"), "status": TEXT, "author": TEXT},
    ),
    "hub.discussions.open_discussion": Operation(
        fields({"num": NUMBER, "pullRequest": FLAG}),
        body={JSON: fields({"title": TEXT}, {"pullRequest": FLAG, "description": TEXT})},
    ),
    "hub.discussions.describe_discussion": Operation(_DISCUSSION, query={"diff": FLAG}),
    "hub.discussions.merge": Operation(fields({"commitOid": TEXT}), body={JSON: fields({}, {"comment": TEXT})}),
    "hub.discussions.set_status": Operation(
        fields({"newStatus": _EVENT}), body={JSON: fields({"status": choice("open", "closed")}, {"comment": TEXT})}
    ),
    "hub.discussions.set_title": Operation(fields({"newTitle": _EVENT}), body={JSON: fields({"title": TEXT})}),
    "hub.discussions.comment": Operation(fields({"newMessage": _EVENT}), body={JSON: fields({"comment": TEXT})}),
    "hub.discussions.edit_comment": Operation(
        fields({"updatedComment": _EVENT}), body={JSON: fields({"content": TEXT})}
    ),
    "hub.discussions.hide_comment": Operation(fields({"updatedComment": _EVENT})),
    # gated repositories
    "hub.gates.request_access": Operation(fields({"status": _GATE_STATUS})),
    "hub.gates.grant": Operation(fields({"status": _GATE_STATUS}), body={JSON: fields({"user": TEXT})}),
    "hub.gates.handle": Operation(
        fields({"status": _GATE_STATUS}),
        body={JSON: fields({"status": _GATE_STATUS}, {"user": TEXT, "requestId": TEXT})},
    ),
    "hub.gates.list_requests": Operation(listed(fields({"requestId": TEXT, "status": _GATE_STATUS})), query=_PAGE),
    # buckets
    "hub.buckets.list_all": Operation(listed(_BUCKET), query=_PAGE),
    "hub.buckets.create": Operation(fields({"url": TEXT}), body={JSON: fields({}, {"private": FLAG})}),
    "hub.buckets.describe": Operation(_BUCKET),
    "hub.buckets.delete": Operation(media_type="", status=(204,)),
    "hub.buckets.settings": Operation(fields({"private": FLAG}), body={JSON: fields({"private": FLAG})}),
    "hub.buckets.tree": Operation(listed(_BUCKET_FILE), query={**_PAGE, "recursive": FLAG}),
    "hub.buckets.paths_info": Operation(listed(_BUCKET_FILE), body={JSON: _PATHS, FORM: _PATHS}),
    "hub.buckets.batch": Operation(
        fields(
            {"success": FLAG, "processed": NUMBER, "succeeded": NUMBER, "failed": listed(fields({"error": TEXT}))},
        ),
        status=(200, 422),  # 422 if no line succeeded
        body=_NDJSON_BODY,
    ),
    "hub.buckets.token": Operation(_XET_TOKEN),
    "hub.buckets.events": Operation(TEXT, "text/event-stream", query={"cursor": TEXT, "since": TEXT}),
    "hub.buckets.resolve": _FILE,
}
