"""Xet tokens for processes that are not Airflow: what a task sealed to this process is opened here.

This module imports nothing, and nothing in this package imports Airflow or the provider.
"""

__version__ = "0.2.0"
