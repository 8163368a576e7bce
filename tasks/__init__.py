"""How each step of a run is done: one folder a step, callable from the shell and from a flow."""

import tidemill  # noqa: F401  (telemetry is off before a step imports an engine)
