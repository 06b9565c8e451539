"""The README as package indexes show it: hatchling asks for it when it builds the provider.

In the repository, links lead to the files beside it. Outside of it, they need the project's address, which is
``Repository`` in ``pyproject.toml``, and lead to the files of the same version.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def with_absolute_links(text: str, address: str, version: str) -> str:
    """Return Markdown whose links to files of the repository are absolute.

    The paths ``blob`` for pages and ``raw`` for pictures are GitHub's.
    """

    def absolute(match: re.Match[str]) -> str:
        image, label, path = match.groups()
        return f"{image}[{label}]({address}/{'raw' if image else 'blob'}/v{version}/{path})"

    return _RELATIVE_LINK.sub(absolute, text)


class Readme(MetadataHookInterface):
    """Sets ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text, with absolute links."""
        if "readme" in metadata:
            return  # this is an unpacked sdist, whose PKG-INFO has it
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(text, metadata["urls"]["Repository"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
