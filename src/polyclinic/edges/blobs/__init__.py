"""Derived outputs as objects by key: a local folder by default, S3, GCS or Azure by URL."""
