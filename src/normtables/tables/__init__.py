"""Which runs a table needs, and what it says once they exist."""
