"""The applications: what each one is, and nothing of how a run is orchestrated."""
