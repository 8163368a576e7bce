"""When a night comes, what it may cost, and what is asked before anything is spent.

No server is started here.
"""

import json
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import make_clone
from tidemill.engines.config.schema import NightLimits, comes


@pytest.mark.parametrize(
    ("variable", "body", "words"),
    [
        (
            "PREFECT_API_URL",
            None,
            "does not answer; start it (tidemill up), or unset PREFECT_API_URL",
        ),
        (
            "MLFLOW_TRACKING_URI",
            None,
            "does not answer; start it (tidemill up), or unset MLFLOW_TRACKING_URI",
        ),
        ("PREFECT_API_URL", b'"2.19.0"', "is version 2.19.0, this environment has 3."),
        ("MLFLOW_TRACKING_URI", b"2.0.1", "is version 2.0.1, this environment has 3."),
    ],
)
def test_a_server_that_is_away_or_of_another_version_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, body: bytes | None, words: str
) -> None:
    import http.server
    import threading

    from tidemill.runtime.errors import Refused
    from tidemill.servers.versions import check

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if body is None:
        server.shutdown()
        server.server_close()
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(Refused) as refused:
        check()
    assert words in str(refused.value)
    if body is not None:
        server.shutdown()


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("0 3 31 2 *", "UTC", "never comes"),
        ("0 3 * *", "UTC", "is no cron"),
        ("0 3 * * *", "Europe/Berlyn", "does not exist"),
        ("99 3 * * *", "UTC", "is no cron"),
    ],
)
def test_a_night_that_never_comes_is_refused(cron: str, zone: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        comes(cron, zone)


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Africa/Cairo",
    ],
)
@pytest.mark.parametrize("cron", ["0 3 * * *", "30 2 * * *", "15 0 * * *"])
def test_a_night_comes_once_on_every_date_of_400_days(zone: str, cron: str) -> None:
    """Over a leap day and both changes of the clock.

    A minute the clock skips at midnight (Cairo, 2028-04-28 00:15) comes an hour early, on the
    evening before: it is that date's night.
    """
    import asyncio

    from prefect.client.schemas.schedules import CronSchedule
    from prefect.server.schemas.schedules import CronSchedule as Server

    CronSchedule(cron=cron, timezone=zone)
    begin = datetime(2027, 12, 1, tzinfo=ZoneInfo(zone))
    dates = asyncio.run(Server(cron=cron, timezone=zone).get_dates(n=400, start=begin))
    local = [
        (
            datetime.fromtimestamp(moment.timestamp(), ZoneInfo(zone)).replace(tzinfo=None)
            + timedelta(hours=1)
        ).date()
        for moment in dates
    ]
    assert local == [date(2027, 12, 1) + timedelta(days=number) for number in range(400)]


def test_a_night_ends_properly_at_its_limits() -> None:
    from flows.limits import spent

    generous = {"minutes": 60, "price_per_hour": 2, "price": 100, "disk_free_gb": 0}
    began = time.monotonic() - 1800
    assert spent(NightLimits(**generous), began) is None
    assert "minutes are spent" in str(spent(NightLimits(**{**generous, "minutes": 20}), began))
    assert "has cost 1.00 of 0.5" in str(spent(NightLimits(**{**generous, "price": 0.5}), began))
    assert "must stay so" in str(spent(NightLimits(**{**generous, "disk_free_gb": 1e9}), began))


def test_who_runs_is_told_from_who_had_its_number_before(tmp_path: Path) -> None:
    from tidemill.runtime.lifetimes.identity import lives, me

    now = me()
    assert lives(now)
    assert not lives({**now, "began": now["began"] - 100})  # the number was given out again
    assert not lives({**now, "boot": "another"})
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not lives({**now, "pid": gone.pid})


def test_what_was_live_on_a_date_is_told() -> None:
    from tidemill.cli.history import live_at
    from tidemill.engines.mlflow.ledger import LedgerDecision
    from tidemill.runtime.errors import Refused

    def decided(day: int, carried_out: bool = True) -> LedgerDecision:
        return LedgerDecision(
            number=day,
            at=f"2026-11-{day}T03:00:00+00:00",
            version=str(day),
            previous=None,
            by="gates",
            why="better",
            digest="d",
            carried_out=carried_out,
        )

    entries = [decided(20), decided(21, carried_out=False), decided(22)]
    assert live_at(entries, "2026-11-19") == []
    assert live_at(entries, "2026-11-20")[0].version == "20"
    assert live_at(entries, "2026-11-22T02:59:59")[0].version == "20"
    assert live_at(entries, "2026-11-23")[0].version == "22"
    with pytest.raises(Refused, match="is no date"):
        live_at(entries, "yesterday")


def test_somebody_is_told_once_that_no_night_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.engines.prefect import notices

    clone = make_clone(tmp_path / "clone", git=False)
    clone.edit("recipe/languages.yaml", lambda body: body.update(nightly=True))
    monkeypatch.chdir(clone.folder)
    told: list[str] = []
    monkeypatch.setattr(notices, "notify", lambda subject, body, state: told.append(subject))
    assert not notices.overdue()
    (clone.folder / ".tidemill").mkdir(exist_ok=True)
    ended_at = datetime(2026, 11, 20, 3, tzinfo=UTC)
    (clone.folder / ".tidemill" / "night.json").write_text(
        json.dumps({"at": ended_at.isoformat(), "ends": {}})
    )
    assert not notices.overdue(ended_at + timedelta(hours=25))
    assert notices.overdue(ended_at + timedelta(hours=27))
    assert not notices.overdue(ended_at + timedelta(hours=28))
    assert told == ["no night for 27 hours"]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("gentle-otter", True), ("", True), ("my-run", False), ("Friday's", False), ("a b-c", False)],
)
def test_a_name_that_a_person_gave_a_run_is_told_from_one_that_prefect_drew(
    name: str, drawn: bool
) -> None:
    from tidemill.engines.prefect.names import made_up

    assert made_up(name) is drawn


def test_every_name_that_prefect_draws_is_known_as_such() -> None:
    from prefect.utilities.names import generate_slug

    from tidemill.engines.prefect.names import made_up

    assert all(made_up(generate_slug(2)) for _ in range(500))
