"""Decide which files a commit carries inline and which go to CAS, for ``preupload``.

The real Hub decides by the repository's ``.gitattributes``, by size, and by the first bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Literal

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

UploadMode = Literal["lfs", "regular"]

GITATTRIBUTES, GITIGNORE = ".gitattributes", ".gitignore"
MAX_REGULAR_BYTES = 10 * 1024 * 1024
SAMPLE_BYTES = 512
"""Number of first bytes of a file that the decision considers."""

_CHARACTER_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "space": " \\t",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

# As in every new repository of the real Hub: archives, weights and arrays, and media in datasets.
_EVERYWHERE = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx "
    "*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz "
    "*.wasm *.xz *.zip *.zst *tfevents*"
)
_IN_DATASETS = (
    "*.avro *.lz4 *.mds *.pcm *.sam *.raw *.aac *.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg *.webp "
    "*.mp4 *.webm"
)


def default_gitattributes(kind: str) -> str:
    """Return the ``.gitattributes`` of a new repository of ``models``, ``datasets`` or ``spaces``."""
    patterns = f"{_EVERYWHERE} {_IN_DATASETS if kind == 'datasets' else ''}".split()
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)


def lfs_rules(gitattributes: str) -> Callable[[str], bool | None]:
    """Return a function that applies ``.gitattributes`` to a path: ``True`` for LFS, ``False`` for not, or ``None``.

    Patterns match as in git: the file name if they have no slash, else the whole path, but never all files of a folder.
    The last matching line wins. Macros are not supported.
    """
    rules: list[tuple[re.Pattern[str], bool]] = []
    for line in gitattributes.splitlines():
        pattern, attributes = _attributes_line(line)
        is_lfs = None
        for attribute in attributes:
            if attribute == "filter" or attribute.startswith(("filter=", "-filter", "!filter")):
                is_lfs = attribute == "filter=lfs"
        if is_lfs is not None and not pattern.startswith(("#", "!", "[attr]")) and not pattern.endswith("/"):
            rules += [(expression, is_lfs) for expression, _ in _expressions(pattern)]

    return lambda path: _last_match(rules, path)


def ignored_paths(gitignore: str) -> Callable[[str], bool]:
    """Return a function that tells whether ``.gitignore`` ignores a path.

    The last matching line wins; paths inside an ignored folder cannot be re-included.
    """
    rules = [rule for line in gitignore.removeprefix("\ufeff").splitlines() for rule in _expressions(line)]

    def is_ignored(path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:depth]) + "/" for depth in range(1, len(parts)))
        return any(_last_match(rules, one) for one in (*folders, path))

    return is_ignored


def upload_mode(size: int, sample: bytes, by_attributes: bool | None) -> UploadMode:
    """Return ``lfs`` for files that go to CAS: by attribute, over 10 MiB, or binary. Empty files are ``regular``.

    :param sample: the first :data:`SAMPLE_BYTES` bytes of the file; they may end inside a character.
    :param by_attributes: what :func:`lfs_rules` says about its path.
    """
    if size == 0:
        return "regular"
    if by_attributes or size > MAX_REGULAR_BYTES:
        return "lfs"
    return "regular" if by_attributes is False or _is_text(sample) else "lfs"


def _attributes_line(line: str) -> tuple[str, list[str]]:
    """Return the pattern and the attributes of a line; a pattern with spaces is in quotation marks."""
    line = line.strip()
    quoted = _QUOTED.match(line)
    if quoted:
        return quoted[1].replace('\\"', '"').replace("\\\\", "\\"), line[quoted.end() :].split()
    pattern, *attributes = line.split() or [""]
    return pattern, attributes


def _expressions(pattern: str) -> list[tuple[re.Pattern[str], bool]]:
    """Return the expression of a pattern and whether it ignores (``!`` re-includes); empty for invalid patterns."""
    for name, characters in _CHARACTER_CLASSES.items():
        pattern = pattern.replace(f"[:{name}:]", characters)
    if pattern.rstrip("/").endswith("/**"):  # the content of the folder, and not the folder itself
        pattern = pattern.rstrip("/") + "/*" + ("/" if pattern.endswith("/") else "")
    try:
        expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(pattern)
        return [(re.compile(str(expression)), ignores)] if expression and ignores is not None else []
    except (ValueError, re.error):
        return []


def _last_match(rules: list[tuple[re.Pattern[str], bool]], path: str) -> bool | None:
    """Return the result of the last matching rule; the path of a folder ends with a slash."""
    for expression, result in reversed(rules):
        match = expression.match(path)
        # This group is the slash after a folder: if more follows, the pattern means the folder and not its content.
        if match is not None and (match.groupdict().get("ps_d") is None or match.end("ps_d") == len(path)):
            return result
    return None


def _is_text(sample: bytes) -> bool:
    if b"\0" in sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True
