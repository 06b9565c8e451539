"""The CAS routes of the local Hub."""
