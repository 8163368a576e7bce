"""Questions to Prefect's server, and waiting for what it is to say."""

import json
import time
import urllib.error
import urllib.request


def ask(url: str, body: dict | None = None) -> object:
    """One question to a server.

    A 503 is asked again, as Prefect's own client does while its SQLite is busy.
    """
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    for again in range(5, -1, -1):
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=20
            ) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code != 503 or not again:
                raise
            time.sleep(1)
    return None


def until(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)
