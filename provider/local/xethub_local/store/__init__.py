"""The data folder of the local Hub: database, access, settings."""
