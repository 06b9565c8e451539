"""What a mirror compares, changes and remembers."""
