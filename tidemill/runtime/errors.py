"""The two ways a request can go wrong, and how each leaves the process."""


class Refused(Exception):
    """The request makes no sense as it stands: a wrong name, a bad value, a missing input.

    The message names the thing, the value and the remedy on one line. Exit code 2.
    """


class Fault(Exception):
    """Something broke that a person did not ask for: no network, a full disk, a killed child.

    Exit code 1. ``heals`` says whether trying again can help; ``killed`` that a child died by
    SIGKILL.
    """

    def __init__(self, message: str, heals: bool = False, killed: bool = False) -> None:
        super().__init__(message)
        self.heals, self.killed = heals, killed
