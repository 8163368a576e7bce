"""The applications: what each one is, and nothing of how a run is orchestrated."""

import tidemill  # noqa: F401  (telemetry is off before a recipe imports an engine)
