"""From what a user names to an open model."""
