"""The card of one commit: read, composed, and validated before anything is uploaded.

The Hub validates it by the route that ``huggingface_hub`` uses for this (``POST /api/validate-yaml``), in our own
request because ``RepoCard.validate`` knows no other endpoint than that of the environment.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.message_text import counted, size
from airflow_provider_xethub.xet.publish.card import PATH, Card, block, has_block, skeleton, with_block, with_data
from airflow_provider_xethub.xet.records import XetFile, XetTransfer, xet_file_record
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

_BAD_REQUEST = 400


class CardWork:
    """The card of one commit.

    :param card: checked.
    :param given: the ``README.md`` among the files, if there is one.
    :param count: the number of the other files.
    :param total: their bytes.
    """

    def __init__(self, hub: Hub, repo: Repo, card: Card, given: bytes | None, count: int, total: int) -> None:
        self._hub = hub
        self._repo = repo
        self._card = card
        self._given = None if given is None else given.decode("utf-8", "replace")
        self._published = f"{counted(count, 'file')}, {size(total)}"
        self._exists = False
        self.transfer: XetTransfer | None = None

    def placeholder(self) -> XetFile:
        """Return a record by which the Hub says how it stores the card."""
        return xet_file_record(PATH, 1, self._repo.uri, sample=b"#")

    def prepare(self, mode: UploadMode) -> None:
        """Read the card that the repository has, and validate the new one.

        :raises XetInputError: the card is not valid, or the repository stores it in CAS, where the Hub does not read
            it.
        """
        if mode.ignored:
            raise XetInputError(f"The .gitignore of {self._repo} excludes {PATH}, so there can be no card. Correct it.")
        if not mode.inline:
            raise XetInputError(
                f"The .gitattributes of {self._repo} stores {PATH} in CAS, where the Hub does not read it. Correct it."
            )
        self._exists = mode.current is not None
        self._validate(self._compose(self._read()))

    def content(self, *, is_alone: bool) -> bytes:
        """Return the content of the card.

        :param is_alone: whether no other file changes. If only the block would, the card is left as it is.
        """
        current = self._read()
        new = self._compose(current)
        if is_alone and current is not None and has_block(current) and skeleton(current) == skeleton(new):
            return current.encode()
        return new.encode()

    def record(self, content: bytes) -> XetFile:
        """Return the record of the card."""
        return xet_file_record(PATH, len(content), self._repo.uri)

    def key_record(self, content: bytes) -> XetFile:
        """Return the record that identifies the work: without the block, in which figures differ between attempts."""
        digest = hashlib.sha256(skeleton(content.decode()).encode()).hexdigest()
        return xet_file_record(PATH, 0, self._repo.uri, sha256=digest)

    def _read(self) -> str | None:
        """Return the card that the repository has now; users may change it while files are uploaded."""
        if not self._exists:
            return None
        try:
            return self._hub.read_inline(self._repo, PATH).decode("utf-8", "replace")
        except XetNotFoundError:
            return None

    def _compose(self, current: str | None) -> str:
        own = next((text for text in (self._card.text, self._given, current) if text is not None), "")
        text = with_data(own, self._card.data) if self._card.data else own
        shown = [(title, self._hub.secrets.hide(value)) for title, value in self._facts()]
        return with_block(text, block(shown))

    def _facts(self) -> list[tuple[str, str]]:
        facts = [*self._card.facts.items(), *(("Input", uri) for uri in dict.fromkeys(self._card.inputs))]
        facts.append(("Files", self._published))
        if self.transfer is not None and self.transfer["bytes"]:
            sent, known = size(self.transfer["bytes_sent"]), size(self.transfer["bytes_deduplicated"])
            facts.append(("Transfer", f"{sent} sent, {known} deduplicated"))
        return [(str(title), str(value)) for title, value in facts]

    def _validate(self, text: str) -> None:
        hub, about = self._hub, f"the validation of the card of {self._repo}"
        body = {"content": text, "repoType": self._repo.repo_type}
        try:
            response = hub.request(
                "POST", "/api/validate-yaml", about=about, json=body, accept=(_BAD_REQUEST,), repo=self._repo
            )
        except XetNotFoundError:
            log.warning("The Hub at %s cannot validate cards, so %s was not checked.", hub.endpoint, PATH)
            return
        with hub.reading(about):
            found = answers.mapping(answers.parse(response.content), "JSON")
            errors, warnings = ([hub.shown(_message(e)) for e in found.get(n) or []] for n in ("errors", "warnings"))
        if response.status_code == _BAD_REQUEST or errors:
            said = "; ".join(errors) or hub.shown(found.get("error") or "no reason given")
            raise XetInputError(f"The card of {self._repo} is not valid: {said}. Nothing was uploaded. Correct {PATH}.")
        for warning in warnings:
            log.warning("The Hub warns about the card of %s: %s", self._repo, warning)


def _message(remark: Any) -> Any:
    return remark.get("message") if isinstance(remark, Mapping) else remark
