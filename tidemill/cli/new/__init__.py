"""Bring your own: a new application like one there is, from a person's folder or table."""
