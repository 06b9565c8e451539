"""Schemas of the control API for the OpenAPI document, by route function."""

from __future__ import annotations

from collections.abc import Mapping

from xethub_local.openapi.operation import (
    ANYTHING,
    FLAG,
    JSON,
    NUMBER,
    TEXT,
    Operation,
    Schema,
    choice,
    fields,
    listed,
)

_SECONDS: Schema = {"type": "number"}
_SETTING_FIELDS = {
    "token_life": _SECONDS,
    "data_url_life": _SECONDS,
    "clock_offset": _SECONDS,
    "exchanged_token_lifetime": _SECONDS,
}
_SETTINGS = fields(_SETTING_FIELDS)
_FAULT = fields({"id": NUMBER, "seen": NUMBER, "acted": NUMBER})
_NEW_FAULT = fields(
    {},
    {"name": TEXT, "route": TEXT, "times": NUMBER, "skip": NUMBER, "client": TEXT, "delay": _SECONDS, "status": NUMBER},
)
_TRANSFER = fields({"session": TEXT})
_SCAN = fields(
    {"status": TEXT}, {"path": TEXT, "repository": TEXT, "scanner": TEXT, "delay": _SECONDS, "message": TEXT}
)
_PUBLISHER = fields({"id": TEXT, "resource": TEXT, "claims": ANYTHING, "read_only": FLAG, "created": _SECONDS})
_DONE = Operation(media_type="", status=(204,))

CONTROL_OPERATIONS: Mapping[str, Operation] = {
    "control.api.show_status": Operation(
        fields({"version": TEXT, "instance": TEXT, "repositories": NUMBER, "settings": _SETTINGS})
    ),
    "control.api.change_settings": Operation(
        _SETTINGS,
        body={JSON: fields({}, _SETTING_FIELDS)},
    ),
    "control.api.list_faults": Operation(fields({"faults": listed(_FAULT), "ready_made": listed(ANYTHING)})),
    "control.api.arm_fault": Operation(_FAULT, status=(201,), body={JSON: _NEW_FAULT}),
    "control.api.disarm_faults": _DONE,
    "control.api.disarm_fault": _DONE,
    "control.api.list_requests": Operation(
        fields({"requests": listed(fields({"method": TEXT, "status": NUMBER}))}),
        query={"route": TEXT, "status": NUMBER, "client": TEXT, "session": TEXT, "limit": NUMBER},
    ),
    "control.api.forget_requests": _DONE,
    "control.api.list_counters": Operation(
        fields({"counters": listed(fields({"route": TEXT, "client": TEXT, "requests": NUMBER, "errors": NUMBER}))})
    ),
    "control.api.list_transfers": Operation(fields({"transfers": listed(_TRANSFER)})),
    "control.api.show_transfer": Operation(_TRANSFER),
    "control.api.list_scans": Operation(fields({"scans": listed(_SCAN)})),
    "control.api.add_scan": Operation(_SCAN, status=(201,), body={JSON: _SCAN}),
    "control.api.forget_scans": _DONE,
    "control.api.list_publishers": Operation(fields({"publishers": listed(_PUBLISHER)})),
    "control.api.add_publisher": Operation(
        _PUBLISHER,
        status=(201,),
        body={JSON: fields({"resource": TEXT, "claims": ANYTHING}, {"issuer": TEXT, "read_only": FLAG})},
    ),
    "control.api.remove_publisher": _DONE,
    "control.api.make_identity": Operation(
        fields({"id_token": TEXT}),
        body={
            JSON: fields(
                {},
                {
                    "sub": TEXT,
                    "aud": TEXT,
                    "lifetime": _SECONDS,
                    "algorithm": choice("RS256", "ES256"),
                    "claims": ANYTHING,
                },
            )
        },
    ),
    "control.api.reset": Operation(fields({"repositories_deleted": NUMBER}), body={JSON: fields({}, {"data": FLAG})}),
    "openapi.document.answer_openapi": Operation(fields({"openapi": TEXT, "paths": ANYTHING}), credential="none"),
}
