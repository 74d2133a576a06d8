"""Training of the tuberculosis screening score."""
