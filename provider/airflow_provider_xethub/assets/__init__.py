"""Airflow assets on the Hub."""
