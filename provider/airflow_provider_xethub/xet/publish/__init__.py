"""Publishing what is in CAS: commits, buckets, copies."""
