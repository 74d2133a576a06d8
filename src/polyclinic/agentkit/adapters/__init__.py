"""Other kinds of programs as agents, each by a small adapter."""
