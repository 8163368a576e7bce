"""MLflow: which models. Runs, versions, aliases and the promotion ledger."""
