"""What moves files in and out of Xet storage. Nothing in this package imports Airflow."""
