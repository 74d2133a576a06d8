"""From proposed findings to a signed report."""
