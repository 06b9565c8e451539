"""Files at both ends of a transfer: sources and targets, on the worker and in object storage."""
