"""Sphinx configuration. Build with ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import re
import tempfile
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import Any

from sphinx.application import Sphinx

# autodoc imports the provider and with it Airflow, which writes its configuration to this folder.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="xethub-docs-"))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")

project = "airflow-provider-xethub"
author = "the airflow-provider-xethub contributors"
project_copyright = author
release = version = installed_version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["examples/**", "_build"]
nitpicky = False
# Installed for long tests only; where it is, Airflow reads what it says about itself.
autodoc_mock_imports = [] if find_spec("airflow.providers.cncf") else ["airflow.providers.cncf"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"{project} {version}"
# The address of the pages for search engines, whichever version somebody reads. Read the Docs sets it; not tried.
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_static_path = ["_static"]
html_css_files = ["xethub.css"]
copybutton_prompt_text = "$ "  # of consoles; only the commands are copied, without it

html_copy_source = False
html_show_sourcelink = False

_SHARED_DESCRIPTION = re.compile(r"( *):param (\w+(?:, \w+)+): (.*)")


def _list_each_parameter(_app: Sphinx, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Give each parameter of ``:param one, other: …`` its own entry; Sphinx takes the first word for a type."""
    for index in range(len(lines) - 1, -1, -1):
        match = _SHARED_DESCRIPTION.fullmatch(lines[index])
        if match:
            indent, names, description = match.groups()
            following = index + 1
            while following < len(lines) and lines[following].startswith(f"{indent} "):
                description += f" {lines[following].strip()}"
                following += 1
            lines[index:following] = [f"{indent}:param {name}: {description}" for name in names.split(", ")]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _list_each_parameter)
