"""Publishing files: what is uploaded, committed, put into buckets and copied."""
