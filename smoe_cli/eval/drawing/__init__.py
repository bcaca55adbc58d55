"""Tasks that ask for drawings."""
