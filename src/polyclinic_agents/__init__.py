"""Agents that ship with Polyclinic."""
