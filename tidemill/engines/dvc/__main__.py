"""python -m tidemill.engines.dvc: write dvc.yaml anew from conf/."""

from tidemill.engines.dvc.graph import refresh
from tidemill.runtime import paths

if __name__ == "__main__":
    paths.settle()
    print("dvc.yaml written" if refresh() else "dvc.yaml is up to date")
