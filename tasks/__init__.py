"""How each step of a run is done: one folder a step, callable from the shell and from a flow."""
