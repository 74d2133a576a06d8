"""Read-only queries joined across departments, for the web application."""
