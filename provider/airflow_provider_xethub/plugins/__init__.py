"""Extend Airflow's API server with an endpoint for the Hub's webhooks."""
