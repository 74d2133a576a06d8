"""Which images go where, and which earlier studies are fetched from other archives."""
