"""Call the Hub over HTTP: requests, responses, listings, history, events."""
