"""What Airflow reads about this provider, in every component: so nothing is imported here."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "xethub"
HOOK_NAME = "Xet Hub"
DEFAULT_CONN_ID = "xethub_default"

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "repo_type": {
        "label": "Default repository type",
        "description": "Used where a task does not give repo_type. Empty: model.",
        "schema": {"type": ["string", "null"], "enum": ["model", "dataset", "space", "bucket"], "default": None},
    },
    "repo_id": {
        "label": "Default repository",
        "description": "namespace/name; used where a task does not give repo_id.",
        "schema": {"type": ["string", "null"], "default": None},
    },
    "revision": {
        "label": "Default revision",
        "description": "Branch, tag, commit or refs/pr/N; used where a task does not give revision. Empty: main.",
        "schema": {"type": ["string", "null"], "default": None},
    },
    "timeout": {
        "label": "Request timeout (seconds)",
        "description": "How long one answer of the Hub may take to begin. Empty: 30.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600, "default": None},
    },
    "stall_timeout": {
        "label": "Stall timeout (seconds)",
        "description": "How long a transfer may stand still before it is ended and tried again. Empty: 120.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600, "default": None},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "File on the workers with the certificate authorities of the Hub and CAS. Empty: the system's.",
        "schema": {"type": ["string", "null"], "default": None},
    },
    # Airflow masks it by its name from 3.1 on, as its URL may carry a user and a password.
    "proxy": {
        "label": "Proxy",
        "description": "URL of the proxy for the Hub and CAS, and for nothing else. Empty: HTTPS_PROXY of the workers.",
        "schema": {"type": ["string", "null"], "format": "password", "default": None},
    },
    # Named so that Airflow masks it by its name: a proxy in front of the Hub may want a key in a header.
    "secret_headers": {
        "label": "Extra HTTP headers (JSON)",
        "description": "Sent with every request to the Hub, never to CAS.",
        "schema": {"type": ["string", "null"], "format": "password", "default": None},
    },
}
"""The connection's own fields: the form, the hook and the docs are all derived from these."""

FIELD_BEHAVIOUR: dict[str, Any] = {
    # Not the port, though the endpoint may have it: the Test button of Airflow 3.3.1 and 3.3.2 refuses a connection
    # that has none, with "Bad Request".
    "hidden-fields": ["schema", "login"],
    "relabeling": {"host": "Hub endpoint", "password": "Hub token", "port": "Port"},
    "placeholders": {
        "host": "https://huggingface.co",
        "password": "hf_…",
        "port": "443",
        "repo_id": "acme/corpus",
        "revision": "main",
        "ca_bundle": "/etc/ssl/certs/acme.pem",
        "proxy": "http://user:password@proxy.acme.example:3128",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form that Airflow 3.0 to 3.3 all accept."""
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
        "operators": [{"integration-name": "Xet Hub", "python-modules": ["airflow_provider_xethub.operators.xethub"]}],
        "sensors": [{"integration-name": "Xet Hub", "python-modules": ["airflow_provider_xethub.sensors.xethub"]}],
        "triggers": [{"integration-name": "Xet Hub", "python-modules": ["airflow_provider_xethub.triggers.xethub"]}],
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
                            "Key (or comma-separated keys, the first seals) to seal Xet tokens in XCom with. Empty: "
                            "Airflow's own Fernet key. Set it where workers must not have Airflow's."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                    "cache_folder": {
                        "description": (
                            "Folder on the workers where the client of CAS remembers what is stored there, at most "
                            "1 GB for each CAS. A retry on the same worker then sends only what is missing. Empty: "
                            "HF_XET_CACHE, HF_HOME/xet, or ~/.cache/huggingface/xet."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": False,
                        "example": "/var/cache/xethub",
                        "default": "",
                    },
                    "webhook_secret": {
                        "description": (
                            "Secret that the Hub's webhooks send, at least 16 characters; two with a comma between "
                            "them while one takes the place of the other. The API server then receives webhooks at "
                            "/xethub/webhook. Empty: it does not."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": True,
                        "example": None,
                        "default": "",
                    },
                    "webhook_conn_id": {
                        "description": (
                            "Connection with which the API server asks the Hub for the commits that a webhook is "
                            "about. Empty: it does not ask; events have no titles then, and there is one for a push."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "sensitive": False,
                        "example": None,
                        "default": DEFAULT_CONN_ID,
                    },
                    "telemetry": {
                        "description": (
                            "Whether hf_xet and huggingface_hub may report figures about transfers and their "
                            "environment to the Hub's operator."
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
