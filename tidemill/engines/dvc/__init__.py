"""DVC: which bytes. The graph, its stages, snapshots and the remote."""
