"""Objects in S3 through botocore: a client for a filesystem, ranged reads and parts, checksums of the storage."""
