"""From a model to its pages and back, and what of it is kept for how long."""
