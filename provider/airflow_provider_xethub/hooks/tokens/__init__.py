"""Xet tokens between tasks: fetched, sealed, bound, opened, and handed to other processes."""
