"""Apache Airflow provider for Hugging Face Xet storage.

Nothing is imported here: Airflow imports this package in every component, also where a DAG is only parsed.
"""

__version__ = "0.1.0"
