"""The first bytes of uploaded files, from which the Hub decides how to store them, as they travel through XCom.

Anyone who can read an XCom could read the start of every file. So the bytes are sealed, and only the kind of content,
text or binary, is in clear: the Hub decides by that.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Sequence

from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.token import Fernet

# Tokens are sealed with the same keys: the prefix keeps one from being used as the other.
_PREFIX = b"xethub sample\n"
_TEXT, _BINARY = (base64.b64encode(content).decode() for content in (b"text\n", b"\0"))


def seal(files: Iterable[XetFile], fernet: Fernet | None) -> list[XetFile]:
    """Return the records with sealed samples; without a key, only the kind of content remains.

    :param fernet: the key to seal with, or ``None`` where this worker has none.
    """
    return [_sealed(file, fernet) for file in files]


def unseal(files: Iterable[XetFile], fernets: Sequence[Fernet]) -> list[XetFile]:
    """Return the records with opened samples, for a commit; where no key opens one, with its kind only.

    :param fernets: the keys of this worker; may be empty.
    """
    return [_opened(file, fernets) for file in files]


def _sealed(file: XetFile, fernet: Fernet | None) -> XetFile:
    record = file.copy()
    sample = base64.b64decode(record.get("sample", ""))
    if not sample:
        return record
    record["sample"] = _TEXT if _is_text(sample) else _BINARY
    if fernet is not None:
        record["sealed_sample"] = fernet.encrypt(_PREFIX + sample).decode("ascii")
    return record


def _opened(file: XetFile, fernets: Sequence[Fernet]) -> XetFile:
    if "sealed_sample" not in file:
        return file
    record = file.copy()
    sealed = record.pop("sealed_sample")
    for fernet in fernets:
        try:
            content = fernet.decrypt(sealed.encode())
        except Exception:  # noqa: S112 - sealed with another key, or edited
            continue
        if content.startswith(_PREFIX):
            record["sample"] = base64.b64encode(content.removeprefix(_PREFIX)).decode()
            break
    return record


def _is_text(sample: bytes) -> bool:
    try:
        # The sample may end within a character.
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
