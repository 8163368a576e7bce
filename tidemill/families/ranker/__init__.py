"""Rankers of a whole catalogue for one user: histories, a linear autoencoder, and a ladder."""
