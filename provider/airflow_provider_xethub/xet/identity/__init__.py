"""Identities of a worker: where its OpenID Connect ID tokens come from, and what is checked before one is sent."""
