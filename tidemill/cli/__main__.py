"""python -m tidemill.cli COMMAND ...: the command line, as `tidemill` is where it is installed."""

from tidemill.cli.main import main

if __name__ == "__main__":
    main()
