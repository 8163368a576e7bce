"""The doors to other systems: each is imported in its folder here and nowhere else."""
