"""Classifiers of a table's rows: columns by type, boosted trees, and a ladder of baselines."""
