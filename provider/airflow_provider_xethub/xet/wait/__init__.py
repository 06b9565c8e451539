"""Wait for files and commits: conditions and the shared poller."""
