"""Links from tasks to the Hub."""
