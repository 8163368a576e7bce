"""This machine: errors, files, paths, processes."""
