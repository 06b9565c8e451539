"""The OpenAPI document of the local Hub."""
