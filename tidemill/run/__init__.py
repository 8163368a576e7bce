"""One run of the model half: its plan, its key and its MLflow run."""
