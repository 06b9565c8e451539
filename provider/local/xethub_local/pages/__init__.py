"""The web pages of the local Hub."""
