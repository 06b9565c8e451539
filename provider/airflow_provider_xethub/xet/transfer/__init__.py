"""Uploads and downloads: files on one side, CAS and the Hub on the other."""
