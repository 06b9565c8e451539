"""Which files a commit carries inline and which go to CAS: the rules behind ``preupload``.

The real Hub decides by the repository's ``.gitattributes``, by size, and by looking at the first bytes.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Literal

UploadMode = Literal["lfs", "regular"]

GITATTRIBUTES = ".gitattributes"
MAX_REGULAR_BYTES = 10 * 1024 * 1024

_BINARY = (
    "7z arrow avro bin bz2 ckpt feather ftz gguf gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb "
    "pickle pkl pt pth rar safetensors sqlite tar tflite tgz wasm xz zip zst "
    "aac flac m4a mp3 ogg opus pcm raw sam wav bmp gif jpeg jpg png tiff webp mkv mov mp4 webm pdf "
)


DEFAULT_GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in (*(f"*.{suffix}" for suffix in _BINARY.split()), "*tfevents*", "saved_model/**/*")
)


def lfs_rules(gitattributes: str) -> Callable[[str], bool | None]:
    """Return a function that says what ``.gitattributes`` says about a path: ``lfs``, not, or nothing.

    Patterns without a slash match the file name, others the whole path; the last line that matches counts.
    """
    rules: list[tuple[str, bool]] = []
    for line in gitattributes.splitlines():
        pattern, *attributes = line.split()[:16] or [""]
        if not pattern or pattern.startswith("#"):
            continue
        for attribute in attributes:
            if attribute == "filter=lfs":
                rules.append((pattern, True))
            elif attribute in ("-filter", "!filter"):
                rules.append((pattern, False))

    def is_lfs(path: str) -> bool | None:
        for pattern, answer in reversed(rules):
            subject = path if "/" in pattern else path.rpartition("/")[2]
            if fnmatchcase(subject, pattern.lstrip("/")):
                return answer
        return None

    return is_lfs


def upload_mode(size: int, sample: bytes, by_attributes: bool | None) -> UploadMode:
    """Return ``lfs`` for what belongs into CAS: by attribute, over 10 MiB, or not text; nothing of size 0 does.

    :param sample: the first bytes of the file, at most 512; they may end inside a character.
    """
    if size == 0:
        return "regular"
    if by_attributes or size > MAX_REGULAR_BYTES:
        return "lfs"
    return "regular" if by_attributes is False or _is_text(sample) else "lfs"


def _is_text(sample: bytes) -> bool:
    if b"\0" in sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True
