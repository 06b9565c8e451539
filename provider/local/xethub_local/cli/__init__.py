"""The command line, ``xethub-local``."""
