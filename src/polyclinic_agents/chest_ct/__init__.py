"""Agent: lung nodules, densitometry and lung volumes on chest CT."""
