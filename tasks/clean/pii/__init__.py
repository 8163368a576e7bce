"""What must not be learned by heart, replaced by typed marks: addresses, numbers of people, keys.

Names of people, postal addresses, birthdays and number plates are not found.
"""

from tasks.clean.pii.marks import LONGEST, found, marked

__all__ = ["LONGEST", "found", "marked"]
