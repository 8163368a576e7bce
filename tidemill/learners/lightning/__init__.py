"""Lightning: the training loop, its checkpoints and callbacks."""
