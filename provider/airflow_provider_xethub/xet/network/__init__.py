"""Reach servers: trust, proxies, and limits on responses."""
