"""One module for each released schema; never edited after its release."""
