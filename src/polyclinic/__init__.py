"""Polyclinic: an open imaging-AI platform for hospitals. Research software, not a medical device."""

__version__ = "0.1.0"
