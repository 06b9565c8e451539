"""The Hub routes of the local Hub."""
