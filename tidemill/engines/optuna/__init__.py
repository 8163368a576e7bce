"""Optuna: which trial comes next."""
