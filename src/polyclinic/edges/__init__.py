"""Adapters of the departments' ports to the outside world, each with its fake."""
