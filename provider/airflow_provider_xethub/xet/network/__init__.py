"""How servers are reached: trust, proxies, bounds of a response."""
