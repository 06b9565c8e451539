"""S3 as a filesystem, as far as a :class:`~airflow_provider_xethub.xet.files.object_storage.Storage` needs one.

``s3fs`` can do more, but its import and its second client take longer than the rest of a small transfer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_xethub.xet.files.s3.errors import translated

_ARN = re.compile(
    r"(arn:[^:/]+:s3[^:/]*:[^:/]*:\d{12}:(?:outpost[:/][^:/]+[:/])?(?:accesspoint|bucket)[:/][^/]+)/?(.*)", re.DOTALL
)
"""An access point in place of a bucket. Its name contains a slash."""


class S3FileSystem:
    """The methods of an ``fsspec`` filesystem that a ``Storage`` calls; nothing is cached.

    A key is taken as it is, also with empty parts between slashes.

    :param client: a client of ``botocore``.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def invalidate_cache(self) -> None:
        """Do nothing."""

    @staticmethod
    def _strip_protocol(path: str) -> str:
        return path.strip("/")

    @staticmethod
    def split_path(path: str) -> tuple[str, str, None]:
        """Return bucket and key; no path names a version."""
        path = path.lstrip("/")
        if access_point := _ARN.fullmatch(path):
            return access_point[1], access_point[2], None
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def head(self, path: str) -> Mapping[str, Any]:
        """Return the response to a HEAD.

        :raises FileNotFoundError: there is no such object.
        """
        bucket, key, _ = self.split_path(path)
        with translated():
            found: Mapping[str, Any] = self.client.head_object(Bucket=bucket, Key=key)
        return found

    def info(self, path: str, *, refresh: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Describe the object with this key, or else the folder.

        :raises FileNotFoundError: there is neither.
        """
        bucket, key, _ = self.split_path(path)
        if key:
            try:
                return _described(bucket, {"Key": key, **(found := self.head(path)), "Size": found["ContentLength"]})
            except FileNotFoundError:
                if not self._is_prefix(bucket, f"{key}/"):
                    raise FileNotFoundError(path) from None
        else:
            with translated():
                self.client.head_bucket(Bucket=bucket)
        return {"name": path, "size": 0, "type": "directory"}

    def find(self, path: str, *, maxdepth: int | None = None, detail: bool = True) -> dict[str, dict[str, Any]]:  # noqa: ARG002
        """Describe all objects below a folder, by name, and no folders.

        :param maxdepth: levels to descend; a bucket that does not exist is empty then, as for ``s3fs``. Default: all,
            with one listing.
        :raises FileNotFoundError: there is no such bucket.
        """
        bucket, key, _ = self.split_path(path)
        try:
            found = list(self._below(bucket, f"{key}/" if key else "", maxdepth))
        except FileNotFoundError:
            if maxdepth is None:
                raise
            found = []
        return {each["name"]: each for each in found}

    def isdir(self, path: str) -> bool:
        """Return whether this is a bucket, or the beginning of keys."""
        bucket, key, _ = self.split_path(path)
        try:
            return self._is_prefix(bucket, f"{key}/" if key else "") or not key
        except FileNotFoundError:
            return False

    def exists(self, path: str) -> bool:
        """Return whether there is an object or a folder at a path."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def rm_file(self, path: str) -> None:
        """Delete an object."""
        bucket, key, _ = self.split_path(path)
        with translated():
            self.client.delete_object(Bucket=bucket, Key=key)

    def abort_mpu(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort a multipart upload."""
        with translated():
            self.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)

    def _is_prefix(self, bucket: str, prefix: str) -> bool:
        with translated():
            page = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        return bool(page.get("Contents"))

    def _below(self, bucket: str, prefix: str, depth: int | None) -> Iterator[dict[str, Any]]:
        folders: list[str] = []
        options: dict[str, Any] = {"Delimiter": "/"} if depth else {}
        while True:
            with translated():
                page = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix, **options)
            yield from (_described(bucket, each) for each in page.get("Contents", ()))
            folders += [each["Prefix"] for each in page.get("CommonPrefixes", ())]
            if not page.get("IsTruncated"):
                break
            options["ContinuationToken"] = page["NextContinuationToken"]
        if depth and depth > 1:
            for folder in folders:
                yield from self._below(bucket, folder, depth - 1)


def _described(bucket: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object as ``s3fs`` does."""
    known = {name: found.get(name) for name in ("ETag", "LastModified", "ChecksumType")}
    return {"name": f"{bucket}/{found['Key']}", "size": found["Size"], "type": "file", **known}
