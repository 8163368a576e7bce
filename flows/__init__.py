"""When the steps run, and in what order."""

from tidemill.runtime import paths

paths.settle()  # before Prefect's import, which reads its settings once
