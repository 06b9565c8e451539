"""The local Hub: a Hub and a CAS on this machine, for quick starts and tests. A development server.

Start it with ``xethub-local serve``, or from Python with :class:`xethub_local.server.LocalHub`.

This module imports nothing, and nothing in this package imports Airflow or the provider.
"""

__version__ = "0.2.0"
