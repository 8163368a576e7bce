"""Texts with classes: what is asked, the ladder of simpler models, and a tuned encoder."""
