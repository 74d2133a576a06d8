"""Nouns that two rooms or more use. Pure: no files, no network, no clock."""
