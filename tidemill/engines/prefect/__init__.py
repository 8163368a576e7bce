"""Prefect's client side: a step as a task, progress, notices, runs that died."""
