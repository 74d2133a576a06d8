"""Who may do what: people, roles, sessions, and the one function that decides."""
