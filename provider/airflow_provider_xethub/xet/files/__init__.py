"""Files on both ends of a transfer: sources and targets, local and in object storage."""
