"""Durable workflows; the only code that calls several departments."""
