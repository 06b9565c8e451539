"""CAS through the native client: sessions, uploads, downloads and streams."""
