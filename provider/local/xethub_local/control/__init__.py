"""Faults, request log and clock of the local Hub, and their routes."""
