"""The life of processes: who ends with whom, and who sees to it.

| process | ends when | ended by |
|---|---|---|
| a step of a run | the run's process ends, however | the kernel (kernel.die_with_parent) |
| a step below DVC or Ray | the run in TIDEMILL_OWNER is gone | itself (owner.watch) |
| a pool's worker | its step ends, however | the kernel (kernel.die_with_parent) |
| Prefect's temporary server, what else a run started | the run's process ends, however | guardian |
| all that, on Ctrl-C or SIGTERM | within three seconds | stopping |
| a service of `tidemill up` | supervisor ends, however | the kernel (bound) |
| what a service left when it died | at once | subreaper |
| supervisor | `tidemill up` ends, however | subreaper |
| a detached report of the server to MLflow | its work is done | itself |

A process is known by machine, boot, number and start time (identity), since numbers are given
again. Who holds a file is a kernel lock (tidemill/runtime/files.py), which the kernel frees.
"""
