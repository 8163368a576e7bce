"""A step's receipt in a few words: for the terminal, and for the run's log in Prefect."""

from tidemill.runtime.receipt import Receipt


def summary(receipt: object) -> str:
    """What the step found, as in "1,204 kept, 31 dropped"."""
    if not isinstance(receipt, Receipt):
        return "done"
    values = receipt.model_dump()
    for field, words in WORDS.items():
        if field in values:
            return words(values)
    return "done"


def _trials(values: dict) -> str:
    if values["value"] is None:
        return "no trial"
    return f"{values['complete']} trials, {values['metric']} {values['value']:.4f}"


def _kept(values: dict) -> str:
    dropped = sum(values["dropped"].values())
    return f"{values['rows']:,} kept, {dropped:,} dropped" + (
        "" if values["ran"] else ", unchanged"
    )


# By the field that only this kind of receipt has; the first that fits.
WORDS = {
    "records": lambda values: f"{values['records']:,} records, {values['fetched']:,} new",
    "stage": _kept,
    "names": lambda values: str(values["names"][-1]),
    "trials": _trials,
    "steps": lambda values: f"{values['steps']} steps",
    "parity": lambda values: f"{values['bytes'] / 1e6:.0f} MB, {values['parity']:.1e} from torch",
    "verdict": lambda values: str(values["verdict"]),
    "run_id": lambda values: f"version {values['version']}" if values["version"] else "no version",
    "moved": lambda values: f"version {values['version']} is @champion",
    "rows": lambda values: f"{values['rows']:,} rows",
}
