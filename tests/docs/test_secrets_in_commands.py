"""No example puts a secret into a command: other users see the arguments of a process, and shells keep a history."""

from __future__ import annotations

import ast
import re

import pytest

from support.documentation import BLOCKS, ROOT

_SECRET = re.compile(
    r"""
      \bhf_(?:…|\.\.\.|x{3,}|[A-Za-z0-9]{6,}\b)            # a Hub token, or what stands for one
    | --(?:conn-)?(?:password|token|secret|fernet-key)[ =](?!\$\()  # in an argument
    | \bBearer\s+(?!\$\()\S                                  # in a header, as of curl -H
    | \b\w*(?:TOKEN|PASSWORD|SECRET|FERNET_KEY)=(?!["']?\$\()\S  # in an assignment, before a command or exported
    | ://[^/\s@:"']*:(?!\$\()[^/\s@"']+@                   # in a URL
    """,
    re.VERBOSE,
)
_COMMAND = re.compile(
    r"^\s*(?:\$ |export |curl |wget |env |airflow |hf |huggingface-cli |xethub-\w+ |docker |kubectl |[A-Z_]+=\S+ \w)"
)
_LOCAL_HUB = ("127.0.0.1:7777", "hf_only_for_tests")
"""The local Hub makes its Hub tokens itself, prints them, and serves nobody else's files; one may be chosen for CI."""


def secret_in(command: str) -> bool:
    return not any(name in command for name in _LOCAL_HUB) and _SECRET.search(command) is not None


def commands():
    """Yield where each command is, and the command: of pages, and of docstrings, comments and messages."""
    for block in BLOCKS:
        language = block.info.partition(" ")[0]
        lines = block.body.splitlines()
        if language == "console":
            yield from ((str(block), line) for line in lines if line.startswith("$ "))
        elif language in ("bash", "sh", "shell"):
            yield from ((str(block), line) for line in lines)
    yield "SECURITY.md", (ROOT / "SECURITY.md").read_text().replace("\n", " ")
    folders = ("dags_example", "docs/examples", "provider/airflow_provider_xethub", "provider/token")
    for path in [each for folder in folders for each in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = f"{path.relative_to(ROOT)}:{node.lineno}"
                for line in node.value.splitlines():
                    if _COMMAND.match(line) or re.search(r"\bairflow connections |\bcurl ", line):
                        yield name, line


def test_no_command_has_a_secret():
    found = list(commands())
    assert len(found) > 40
    assert not [f"{where}: {command}" for where, command in found if secret_in(command)]


@pytest.mark.parametrize(
    "command",
    [
        "airflow connections add xethub_default --conn-type xethub --conn-password hf_…",
        "airflow connections add x --conn-uri xethub://:pw@huggingface.co",
        'curl -H "Authorization: Bearer hf_abcdefghij" https://huggingface.co/api/whoami-v2',
        'curl -H "Authorization: Bearer $HF_TOKEN" https://huggingface.co/api/whoami-v2',
        "export HF_TOKEN=hf_…",
        "HF_TOKEN=secret hf upload acme/corpus .",
        "hf auth login --token hf_xxxxxxxx",
        """export AIRFLOW_CONN_XETHUB_DEFAULT='{"conn_type": "xethub", "password": "hf_…"}'""",
        "export AIRFLOW__XETHUB__FERNET_KEY=abc",
        "$ XETHUB_WEBHOOK_SECRET=0123456789abcdef xethub-local serve",
    ],
)
def test_a_command_with_a_secret_is_found(command):
    assert secret_in(command)


@pytest.mark.parametrize(
    "command",
    [
        'export AIRFLOW_CONN_XETHUB_DEFAULT="$(cat /run/secrets/xethub_default)"',
        'export XETHUB_WEBHOOK_SECRET="$(cat secret.txt)"',
        "airflow connections import connections.json",
        "xethub-token open sealed.txt --key key.json --to token.json",
        "xethub-local serve --token-life 60",
        "pip install xethub-token",
        "xethub-local serve --webhook http://127.0.0.1:8080/xethub/webhook",
    ],
)
def test_a_command_without_one_is_not(command):
    assert not secret_in(command)
