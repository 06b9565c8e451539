"""What Airflow reads about this provider. Every component of Airflow reads it, so it imports nothing."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "xethub"
HOOK_NAME = "Hugging Face (Xet)"
DEFAULT_CONN_ID = "xethub_default"

IDENTITIES = ("file", "variable", "google", "azure", "aws", "custom")
"""Kinds of identities that a keyless connection may name."""

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "repo_type": {
        "label": "Default repository type",
        "description": "For tasks that do not name a type: model, dataset, space or bucket. Default: model.",
        "schema": {"type": ["string", "null"], "enum": ["model", "dataset", "space", "bucket"], "default": None},
    },
    "repo_id": {
        "label": "Default repository",
        "description": "For tasks that do not name a repository. Write it as namespace/name.",
        "schema": {"type": ["string", "null"], "default": None},
    },
    "revision": {
        "label": "Default revision",
        "description": "For tasks that do not name a revision: a branch, tag, commit or refs/pr/N. Default: main.",
        "schema": {"type": ["string", "null"], "default": None},
    },
    "timeout": {
        "label": "Request timeout (seconds)",
        "description": "How many seconds the Hub may take to respond to a request, from 1 to 600. Default: 30.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600, "default": None},
    },
    "stall_timeout": {
        "label": "Stall timeout (seconds)",
        "description": (
            "After how many seconds without progress a transfer is cancelled and retried, from 1 to 600. Default: 120."
        ),
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600, "default": None},
    },
    "max_concurrency": {
        "label": "Requests at a time",
        "description": "How many requests with data a task may have open at CAS, from 1 to 64. Default: no limit.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 64, "default": None},
    },
    "max_bandwidth": {
        "label": "Bandwidth (bytes per second)",
        "description": (
            "How many bytes per second a task may send to CAS, and receive from it, such as 50MB. Default: no limit."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    "min_rate": {
        "label": "Minimum rate (bytes per second)",
        "description": (
            "A transfer that is slower than this for a minute, such as 1MB, is started again with fewer requests, and "
            "then cancelled and retried. Default: none."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": (
            "File on the workers with the certificates to trust for the Hub and CAS. Default: those of the system."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    "identity": {
        "label": "Identity",
        "description": (
            "In place of a Hub token: whose ID token is exchanged for tokens of one repository each: file, variable, "
            "google, azure, aws or custom. Default: none."
        ),
        "schema": {"type": ["string", "null"], "enum": [*IDENTITIES], "default": None},
    },
    "identity_file": {
        "label": "Identity file",
        "description": (
            "For the identity file: its path on the workers, which the administrator has to list in [xethub] "
            "identity_files."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    "identity_variable": {
        "label": "Identity variable",
        "description": (
            "For the identity variable: name of an environment variable of the workers, which the administrator has to "
            "list in [xethub] identity_variables."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    "identity_user": {
        "label": "User of gated repositories",
        "description": (
            "With an identity: exchange it for this user of the Hub, to read the gated repositories that the user has "
            "access to. Default: for the repository that a task works on."
        ),
        "schema": {"type": ["string", "null"], "default": None},
    },
    # Airflow 3.1 and later mask it by its name, because the URL may contain a user and a password.
    "proxy": {
        "label": "Proxy",
        "description": "URL of a proxy that only requests to the Hub and CAS use. Default: HTTPS_PROXY of the workers.",
        "schema": {"type": ["string", "null"], "format": "password", "default": None},
    },
    # Airflow masks it by its name: a proxy in front of the Hub may require a key in a header.
    "secret_headers": {
        "label": "Extra HTTP headers (JSON)",
        "description": 'Headers for each request to the Hub, such as {"X-Proxy-Key": "…"}. They are never sent to CAS.',
        "schema": {"type": ["string", "null"], "format": "password", "default": None},
    },
}
"""The connection's own fields. The form and the hook are derived from them, and the docs are compared with them."""

FIELD_BEHAVIOUR: dict[str, Any] = {
    # The port stays visible, although the endpoint may contain one: the Test button of Airflow 3.3.1 and 3.3.2 fails
    # with "Bad Request" for a connection without a port.
    "hidden-fields": ["schema", "login"],
    "relabeling": {"host": "Hub endpoint", "password": "Hub token", "port": "Port"},
    "placeholders": {
        "host": "https://huggingface.co",
        "password": "hf_…",
        "port": "443",
        "repo_id": "acme/corpus",
        "revision": "main",
        "max_bandwidth": "50MB",
        "min_rate": "1MB",
        "identity_file": "/var/run/secrets/huggingface/token",
        "identity_variable": "HF_ID_TOKEN",
        "identity_user": "acme-bot",
        "ca_bundle": "/etc/ssl/certs/acme.pem",
        "proxy": "http://user:password@proxy.acme.example:3128",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in a form that all of Airflow 3.0 to 3.3 accept."""
    return {
        "package-name": "airflow-provider-xethub",
        "name": "Xet Hub",
        "description": "Hugging Face Xet storage: scoped short-lived tokens, transfers through CAS, sensors.",
        "integrations": [
            {
                "integration-name": "Xet Hub",
                "external-doc-url": "https://huggingface.co/docs/hub/xet/index",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Xet Hub", "python-modules": ["airflow_provider_xethub.hooks.xethub"]}],
        "operators": [
            {
                "integration-name": "Xet Hub",
                "python-modules": [
                    "airflow_provider_xethub.operators.pull_requests",
                    "airflow_provider_xethub.operators.refs",
                    "airflow_provider_xethub.operators.repositories",
                    "airflow_provider_xethub.operators.xethub",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Xet Hub",
                "python-modules": [
                    "airflow_provider_xethub.sensors.pull_requests",
                    "airflow_provider_xethub.sensors.scans",
                    "airflow_provider_xethub.sensors.xethub",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "Xet Hub",
                "python-modules": [
                    "airflow_provider_xethub.triggers.pull_requests",
                    "airflow_provider_xethub.triggers.scans",
                    "airflow_provider_xethub.triggers.xethub",
                ],
            }
        ],
        "task-decorators": [
            {"name": "xethub", "class-name": "airflow_provider_xethub.decorators.xethub.xethub_task"},
        ],
        "filesystems": ["airflow_provider_xethub.fs.hf", "airflow_provider_xethub.fs.xethub"],
        "extra-links": ["airflow_provider_xethub.links.xethub.XetHubLink"],
        "asset-uris": [
            {
                "schemes": ["hf"],
                "handler": "airflow_provider_xethub.assets.xethub.sanitize_uri",
                "factory": "airflow_provider_xethub.assets.xethub.create_asset",
                "to_openlineage_converter": "airflow_provider_xethub.assets.xethub.convert_asset_to_openlineage",
            }
        ],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "airflow_provider_xethub.hooks.xethub.XetHubConnection",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
        "config": {
            "xethub": {
                "description": "Settings of airflow-provider-xethub.",
                "options": {
                    "fernet_key": {
                        "description": (
                            "Key that seals Xet tokens in XCom, or keys separated by commas, of which the first seals. "
                            "Default: Airflow's own Fernet key. Set it where workers must not have Airflow's key."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                    "cache_folder": {
                        "description": (
                            "Folder on the workers in which the CAS client remembers what CAS has stored, at most 1 GB "
                            "for each CAS. A retry on the same worker then sends only what is missing. Default: "
                            "HF_XET_CACHE, HF_HOME/xet, or ~/.cache/huggingface/xet."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "/var/cache/xethub",
                        "default": "",
                    },
                    "digest_memory": {
                        "description": (
                            "Whether workers remember the digests of local files in cache_folder, without names or "
                            "contents. A large folder is then not read again while its files are unchanged. Only for "
                            "files on local disks."
                        ),
                        "version_added": "0.2.0",
                        "type": "boolean",
                        "sensitive": False,
                        "example": None,
                        "default": "True",
                    },
                    "webhook_secret": {
                        "description": (
                            "Secret that the Hub's webhooks send, at least 16 characters; two, separated by a comma, "
                            "while one replaces the other. With it, the API server accepts webhooks at "
                            "/xethub/webhook. Empty: it accepts none."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                    "webhook_conn_id": {
                        "description": (
                            "Connection with which the API server fetches the commits of a webhook from the Hub. "
                            "Empty: it does not fetch them; events then have no titles, and each push is one event."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": False,
                        "example": None,
                        "default": DEFAULT_CONN_ID,
                    },
                    "minimum_credential": {
                        "description": (
                            "The weakest credential that a connection may have: any; fine_grained, a fine-grained Hub "
                            "token or an identity, which the Hub is asked once in each process; or keyless, an "
                            "identity and no Hub token. Connections without a credential read what is public."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "fine_grained",
                        "default": "any",
                    },
                    "identity_files": {
                        "description": (
                            "Files on the workers whose ID tokens keyless connections may use: absolute paths, "
                            "separated by commas. Empty: none."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "/var/run/secrets/huggingface/token",
                        "default": "",
                    },
                    "identity_variables": {
                        "description": (
                            "Environment variables of the workers whose ID tokens keyless connections may use: names, "
                            "separated by commas. Empty: none."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "HF_ID_TOKEN",
                        "default": "",
                    },
                    "identity_class": {
                        "description": (
                            "Import path of a class that returns ID tokens, for keyless connections with the identity "
                            "custom. It needs no arguments, and has the method id_token(audience). Empty: none."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "acme.identities.HubIdentity",
                        "default": "",
                    },
                    "identity_endpoints": {
                        "description": (
                            "Hubs besides https://huggingface.co that ID tokens may be sent to: URLs, separated by "
                            "commas. One on the machine of the worker itself needs no entry."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "https://hub.acme.example",
                        "default": "",
                    },
                    "manifest_files": {
                        "description": (
                            "File records that a task returns as a list. More become a manifest: a short value that "
                            "refers to them, which all operators take as files. Airflow maps over no more than "
                            "[core] max_map_length items either."
                        ),
                        "version_added": "0.2.0",
                        "type": "integer",
                        "sensitive": False,
                        "example": None,
                        "default": "1024",
                    },
                    "manifest_storage": {
                        "description": (
                            "Folder in object storage for the records of large results, as URI with the Airflow "
                            "connection; the same on all workers. Workers without a connection to the Hub can then "
                            "read listings, too. Empty: a listing is listed again, and uploads go to CAS."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "s3://aws_default@airflow/xethub",
                        "default": "",
                    },
                    "transfer_memory": {
                        "description": (
                            "Resident memory of a task's process beyond which uploads and downloads wait instead of "
                            "buffering more: bytes, or with a unit such as 350MB. Empty: 500 MB, or less where the "
                            "control group or the host of the worker has less free."
                        ),
                        "version_added": "0.2.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "350MB",
                        "default": "",
                    },
                    "telemetry": {
                        "description": (
                            "Whether hf_xet and huggingface_hub may report figures about transfers and their "
                            "environment to the operator of the Hub."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "sensitive": False,
                        "example": None,
                        "default": "False",
                    },
                },
            }
        },
    }
