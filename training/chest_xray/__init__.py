"""Training, evaluation and confounding checks of the chest X-ray models."""
