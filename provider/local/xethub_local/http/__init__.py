"""HTTP details that the Hub routes and the CAS routes share."""
