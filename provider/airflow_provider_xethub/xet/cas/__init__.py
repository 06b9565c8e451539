"""CAS through the native client: sessions, uploads, downloads, streams."""
