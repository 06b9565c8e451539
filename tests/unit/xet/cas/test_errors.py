"""Texts of ``hf_xet`` that no server here can be made to provoke; the others are provoked in test_wrong_answers.py."""

from __future__ import annotations

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.xet.cas import errors as cas_errors
from airflow_provider_xethub.xet.redaction import Secrets

ABOUT = "the upload of 1 file to hf://a/b@main"
SECRET = "xet_secret_value"


def read(text, *, upload=True):
    return cas_errors.from_client(
        RuntimeError(text), about=ABOUT, cas_url="https://cas.example", secrets=Secrets(SECRET), upload=upload
    )


@pytest.mark.parametrize(
    ("text", "upload", "kind", "said"),
    [
        ("User cancelled: commit_blocking cancelled by user", True, exceptions.XetCancelledError, "from outside"),
        (
            "I/O error: No space left on device (os error 28)",
            False,
            exceptions.XetDestinationError,
            "No space left on device on this worker. Correct",
        ),
        (
            "I/O error: Permission denied (os error 13)",
            True,
            exceptions.XetSourceError,
            "Permission denied on this worker. Correct",
        ),
        ("Rate limited: slow down", True, exceptions.XetRateLimitError, "answered 429"),
        ("Server error: x", True, exceptions.XetServerError, "answered 500"),
        (
            "HTTP status client error (409 Conflict)",
            True,
            exceptions.XetServerError,
            "it is busy. Let the task retry",
        ),
        ("HTTP status client error (418 I'm a teapot)", True, exceptions.XetResponseError, "refused the request"),
        (
            "Auth error: Token refresh failed: HTTP status client error (401 Unauthorized)",
            True,
            exceptions.XetUnauthorizedError,
            "The Hub, asked for a new Xet token, answered 401",
        ),
        (
            "HTTP status client error (403 Forbidden), domain: https://transfer.example/xorbs/default/1?sig=x",
            False,
            exceptions.XetTransferError,
            "403 to a signed URL, which may have expired. Let the task retry",
        ),
        (
            "HTTP status client error (400 Bad Request), domain: https://transfer.example/xorbs/default/1?sig=x",
            False,
            exceptions.XetTransferError,
            "400 to a signed URL, which may have expired. Let the task retry",
        ),
        (
            "HTTP status client error (403 Forbidden), domain: https://cas.example/v2/reconstructions/1",
            False,
            exceptions.XetForbiddenError,
            "CAS answered 403 for hf://a/b@main: the Xet token lacks permission",
        ),
        (
            "HTTP status client error (403 Forbidden), domain: http://127.0.0.1:9/xet-token/1",
            False,
            exceptions.XetForbiddenError,
            "answered 403",
        ),
        ("File size mismatch: expected 9 bytes", False, exceptions.XetIntegrityError, "expected 9 bytes"),
        ("Format error: Chunk header parse error", False, exceptions.XetIntegrityError, "It was discarded"),
        (
            "Malformed data: cannot convert value 255 to CompressionScheme",
            False,
            exceptions.XetIntegrityError,
            "arrived damaged or ended early. Let the task retry",
        ),
        (
            "Internal Writer Error: Data sender was dropped before sending data.",
            False,
            exceptions.XetIntegrityError,
            "arrived damaged or ended early. Let the task retry",
        ),
        (
            "IO Error: write_vectored returned 0 with non-empty buffers.",
            False,
            exceptions.XetIntegrityError,
            "arrived damaged or ended early. Let the task retry",
        ),
        (
            "Internal Writer Error: Byte range not sequential: expected start at 4194304, got 5242880",
            False,
            exceptions.XetIntegrityError,
            "arrived damaged or ended early. Let the task retry",
        ),
        (
            'task 7 panicked with message "range end out of bounds: 9 <= 3"',
            False,
            exceptions.XetIntegrityError,
            "arrived damaged or ended early. Let the task retry",
        ),
        ("Task error: something new", True, exceptions.XetTransferError, "if it repeats: something new."),
    ],
)
def test_each_text_has_its_error(text, upload, kind, said):
    error = read(text, upload=upload)
    assert type(error) is kind
    assert said in str(error)
    assert "of 1 file" in str(error)


def test_a_refresh_that_fails_is_not_taken_for_cas_refusing_the_token():
    """It would be answered by fetching another token, which the Hub has just refused."""
    assert read("Token refresh failed: HTTP status client error (401 Unauthorized)").service == "Hub"
    assert read("HTTP status client error (401 Unauthorized), domain: https://cas.example/v1").service == "CAS"


def test_a_text_shows_neither_the_token_nor_the_query_of_a_data_url():
    text = str(read(f"new kind of failure at https://cas.example/data/1?range=1-2&sig=abcdef with {SECRET}"))
    assert "new kind of failure at https://cas.example/data/1?…" in text
    assert "abcdef" not in text
    assert SECRET not in text


def test_a_text_stays_short_and_on_one_line():
    text = str(read("x\n\x1b[31m" + "y" * 5000))
    assert len(text) < 600
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "refused", "xorb"),
    [
        (f"The shard is refused: Xorb {'ab' * 32} is listed in the shard, but not stored here", True, "ab" * 32),
        ("HTTP status client error (400 Bad Request) for url (https://cas.example/v1/shards)", True, None),
        ("HTTP status client error (404 Not Found) for url (https://cas.example/v1/shards)", True, None),
        ("HTTP status server error (503 Service Unavailable) for url (https://cas.example/v1/shards)", False, None),
        ("HTTP status client error (401 Unauthorized) for url (https://cas.example/v1/shards)", False, None),
        ("HTTP status client error (400 Bad Request) for url (https://cas.example/v1/xorbs)", False, None),
        ("error sending request for url (https://cas.example/v1/shards)", False, None),
        ("error decoding response body of https://cas.example/v2/shards", False, None),
        ("I/O error: No space left on device (os error 28): /cache/shard-cache/a.mdb", False, None),
    ],
)
def test_a_refused_shard_is_told_from_other_failures(text, refused, xorb):
    error = RuntimeError(text)
    assert cas_errors.refuses_shard(error) is refused
    assert cas_errors.xorb_named_in(error) == xorb
