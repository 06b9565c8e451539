"""What went wrong with a request to S3, as errors that a filesystem raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
           "InvalidToken", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "InvalidPayer",
           "InvalidSecurity", "RequestTimeTooSkewed"}  # fmt: skip
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_CHANGED = {"412", "PreconditionFailed", "416", "InvalidRange"}


class FileExpired(OSError):  # noqa: N818 - the name that s3fs gives it
    """The object is no longer what it was when it was listed."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise an error of the client as the :class:`OSError` that a filesystem raises."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        response = getattr(error, "response", None)
        if not isinstance(response, Mapping):
            raise
        about = response.get("Error", {})
        code, text = str(about.get("Code", "")), str(about.get("Message") or error)
        if code in _CHANGED:
            raise FileExpired(text) from None
        kind = PermissionError if code in _DENIED else FileNotFoundError if code in _MISSING else OSError
        raise kind(text if kind is not OSError else f"{code}: {text}") from None


def breaks() -> tuple[type[Exception], ...]:
    """Return the errors of a response that breaks off."""
    from botocore import exceptions

    return (
        exceptions.IncompleteReadError,
        exceptions.ReadTimeoutError,
        exceptions.ResponseStreamingError,
        exceptions.FlexibleChecksumError,
        ConnectionError,
        EOFError,
        TimeoutError,
    )


def damaged(name: str) -> NoReturn:
    """Refuse content that does not have the checksum ``name``."""
    raise OSError(f"it arrived damaged: its {name} is not the one that the storage has. Nothing was published.")
