"""An agent for tests: quick, and as bad as the series description tells it to be."""
