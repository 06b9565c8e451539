"""The connection in Airflow: its fields, its credential or identity, and what the configuration allows."""
