"""Check that the content of a shard is true, without registering anything.

Source: the checks that the Xet protocol requires of a server for a shard upload.
"""

from __future__ import annotations

import hashlib

from xethub_local.content.xorbs import UnknownXorbError, XorbReader, XorbStore
from xethub_local.formats import FormatError, hashing, shard, xorb
from xethub_local.formats.hashing import HASH_LENGTH, to_hex


def check_xorb(listed: shard.ShardXorb, xorbs: XorbStore) -> None:
    """Compare a xorb that a shard lists with the stored xorb, chunk by chunk.

    :raises FormatError: it is not stored here, or has different chunks.
    """
    name = f"Xorb {to_hex(listed.xorb_hash)}"
    try:
        index = xorbs.index(listed.xorb_hash)
    except UnknownXorbError as error:
        raise FormatError(f"{name} is listed in the shard, but not stored here; upload it first.") from error
    lengths = index.raw_lengths(0, index.chunk_count)
    if listed.chunk_hashes != xorbs.chunk_hashes(listed.xorb_hash) or listed.raw_lengths != lengths:
        raise FormatError(f"{name} does not have the chunks that the shard lists.")


def check_file(file: shard.ShardFile, xorbs: XorbStore) -> None:
    """Check a file's segments, verification hashes and file hash against the stored xorbs.

    The verification hashes prove that the uploader knows the chunks, and not only the hash of another user's xorb.
    A file without them is refused.

    :raises FormatError: the message names the file, the segment and what does not match.
    """
    if file.segments and file.range_hashes is None:
        raise FormatError(f"{_name(file)} has no verification hashes, which are required.")
    leaves: list[hashing.SizedHash] = []
    for number, segment in enumerate(file.segments):
        hashes, lengths = _check_segment(file, number, segment, xorbs)
        if file.range_hashes is None or hashing.range_hash(hashes) != file.range_hashes[number]:
            raise FormatError(f"{_name(file, number)}: the verification hash does not match its chunks.")
        leaves.extend(zip(xorb.split_hashes(hashes), lengths, strict=True))
    actual = hashing.file_hash(leaves)
    if actual != file.file_hash:
        raise FormatError(f"{_name(file)}: the hash of its chunks is {to_hex(actual)}.")


def check_sha256(file: shard.ShardFile, reader: XorbReader, known: str | None) -> None:
    """Compare the sha256 that a shard gives for a file with that of its bytes.

    :param known: the file's sha256 if it is already stored; otherwise the file is assembled and hashed.
    :raises FormatError: they differ.
    """
    actual = known
    if actual is None:
        digest = hashlib.sha256()
        for segment in file.segments:
            for piece in reader.read_chunks(segment.xorb_hash, segment.first, segment.last):
                digest.update(piece)
        actual = digest.hexdigest()
    if actual != file.sha256:
        raise FormatError(f"{_name(file)}: the shard gives the sha256 {file.sha256}, but its bytes have {actual}.")


def _check_segment(
    file: shard.ShardFile, number: int, segment: shard.Segment, xorbs: XorbStore
) -> tuple[bytes, tuple[int, ...]]:
    """Check a segment against its xorb, and return the hashes and raw lengths of its chunks."""
    first, last = segment.first, segment.last
    try:
        index = xorbs.index(segment.xorb_hash)
    except UnknownXorbError as error:
        raise FormatError(
            f"{_name(file, number)}: xorb {to_hex(segment.xorb_hash)} is not stored here; upload it first. If "
            "the client did, its shard cache is outdated."
        ) from error
    if last > index.chunk_count or segment.raw_bytes != index.raw_length(first, last):
        name, chunks = _name(file, number), f"chunks {first} to {last} of xorb {to_hex(segment.xorb_hash)}"
        if last > index.chunk_count:
            raise FormatError(f"{name}: {chunks}, which has only {index.chunk_count} chunks.")
        raise FormatError(f"{name}: {segment.raw_bytes} bytes, but {chunks} have {index.raw_length(first, last)}.")
    hashes = xorbs.chunk_hashes(segment.xorb_hash)[first * HASH_LENGTH : last * HASH_LENGTH]
    return hashes, index.raw_lengths(first, last)


def _name(file: shard.ShardFile, segment: int | None = None) -> str:
    """Return the name of a file and segment for a message; lazily, because shards have thousands of them."""
    name = f"File {to_hex(file.file_hash)}"
    return name if segment is None else f"{name}, segment {segment}"
