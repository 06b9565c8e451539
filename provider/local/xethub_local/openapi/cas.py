"""Schemas of the CAS routes for the OpenAPI document, by route function."""

from __future__ import annotations

from collections.abc import Mapping

from xethub_local.openapi.operation import (
    ANYTHING,
    BINARY,
    BYTES,
    FLAG,
    HASH,
    JSON,
    NDJSON,
    NUMBER,
    TEXT,
    Operation,
    choice,
    fields,
    listed,
)

_RANGE = {"Range": TEXT}
_CHUNKS = fields({"start": NUMBER, "end": NUMBER})
_TERM = fields({"hash": HASH, "unpacked_length": NUMBER, "range": _CHUNKS})
_RECONSTRUCTION = fields(
    {"offset_into_first_range": NUMBER, "terms": listed(_TERM)},
    {  # the first in version 1, the second in version 2; by xorb hash
        "fetch_info": {"type": "object", "additionalProperties": {"type": "array"}},
        "xorbs": {"type": "object", "additionalProperties": {"type": "array"}},
    },
)

CAS_OPERATIONS: Mapping[str, Operation] = {
    "cas.xorbs.give_grant": Operation(
        fields({}, {"was_inserted": FLAG, "id": TEXT, "method": TEXT, "url": TEXT}),  # already stored, or a grant
        status=(200, 201),
        body={JSON: fields({"length": NUMBER}, {"checksum": ANYTHING})},
        credential="xet",
    ),
    "cas.xorbs.upload": Operation(media_type="", body={BINARY: BYTES}, credential="signed"),
    "cas.xorbs.commit": Operation(fields({"was_inserted": FLAG}), credential="xet"),
    "cas.xorbs.add": Operation(fields({"was_inserted": FLAG}), body={BINARY: BYTES}, credential="xet"),
    "cas.xorbs.find": Operation(media_type="", credential="xet"),
    "cas.files.find_chunk": Operation(BYTES, BINARY, errors_without_body=(404,), credential="xet"),
    "cas.files.add_shard_v1": Operation(fields({"result": {"enum": [0, 1]}}), body={BINARY: BYTES}, credential="xet"),
    "cas.files.add_shard_v2": Operation(TEXT, NDJSON, body={BINARY: BYTES}, credential="xet"),
    "cas.files.reconstruct": Operation(_RECONSTRUCTION, headers=_RANGE, credential="xet"),
    "cas.files.find_file": Operation(media_type="", credential="xet"),
    "cas.files.reconstruct_listed": Operation(
        fields({"files": ANYTHING, "fetch_info": ANYTHING}),
        body={JSON: listed(fields({"prefix": choice("default"), "hash": HASH}))},
        credential="xet",
    ),
    "cas.files.describe_chunks": Operation(
        fields(
            {
                "totalChunks": NUMBER,
                "fileSize": NUMBER,
                "windows": listed(fields({"dirtyByteRange": listed(NUMBER)})),
                "hashRanges": listed(ANYTHING),
                "gapVerification": listed(HASH),
            }
        ),
        headers={"X-Range-Dirty": TEXT},
        credential="xet",
    ),
    "cas.files.reconstruct_many": Operation(
        fields({"files": ANYTHING, "fetch_info": ANYTHING}), query={"file_id": listed(HASH)}, credential="xet"
    ),
    "cas.files.send_data": Operation(
        BYTES, BINARY, (206,), query={"range": TEXT, "expires": NUMBER}, headers=_RANGE, credential="signed"
    ),
    "cas.routes._accept_telemetry": Operation(media_type="", status=(204,), body={BINARY: BYTES}, credential="xet"),
}
