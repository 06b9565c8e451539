"""Callbacks for the operators of other providers."""
