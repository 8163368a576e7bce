"""What a person does in the pages.

Start from the form, watch it end, open the artifacts, approve, follow the link.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Clone, make_clone

shots = os.environ.get(
    "TIDEMILL_PICTURES"
)  # a folder: the pages are kept there, for docs/operate.md
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


@pytest.mark.apps
def test_a_person_starts_a_retraining_in_the_browser_approves_it_and_follows_the_link(
    tmp_path: Path, page
) -> None:
    clone = make_clone(tmp_path / "clone")

    clone.edit("recipe/languages.yaml", lambda body: body.update(approval=True))
    done = clone.tidemill("up", "--detach", "--json", timeout=180)
    assert done.returncode == 0, done.stderr
    where = json.loads(done.stdout)
    outside: list[str] = []
    page.on(
        "request",
        lambda request: (
            outside.append(request.url)
            if not re.match(r"(http://(127\.0\.0\.1|localhost)|data:|blob:)", request.url)
            else None
        ),
    )
    try:
        start(page, where)
        run = paused(clone, where)
        second_generation(page, where, run)
        page.goto(f"{where['prefect']}/runs/flow-run/{run}")
        page.get_by_role("button", name="Resume").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("is held").first.wait_for(timeout=20_000)
        dialog.get_by_role("switch").first.click()
        boxes = dialog.locator("textarea")
        boxes.nth(0).fill("seen and wanted")
        boxes.nth(1).fill("Ada")
        if shots:
            page.screenshot(path=f"{shots}/approval.png")
        dialog.get_by_role("button", name=re.compile("Submit|Resume")).last.click()
        page.get_by_text("Promoted", exact=True).first.wait_for(timeout=60_000)
        if shots:
            page.screenshot(path=f"{shots}/run.png")
        page.get_by_role("tab", name="Artifacts").or_(
            page.get_by_text("Artifacts", exact=True)
        ).first.click()
        page.get_by_text("gates", exact=False).first.wait_for(timeout=20_000)
        live = json.loads(clone.tidemill("history", "languages", "--json").stdout)
        assert live[-1]["by"] == "Ada" and live[-1]["why"] == "seen and wanted"
        link = mlflow_link(where, run)
        page.goto(link)
        page.get_by_text("test.macro_f1.candidate", exact=False).first.wait_for(timeout=60_000)
        if shots:
            page.screenshot(path=f"{shots}/mlflow.png")
        told = "\n".join(artifacts(where, run, "verdict"))
        assert "# ✋ languages: Held" in told and "tidemill approve languages" in told
        assert "# ✅ languages: Promoted" in told and "Ada approved: seen and wanted" in told
        link = re.search(r"\[Version 1 of languages\]\((http[^)]*)\)", told)
        assert link is not None
        page.goto(link.group(1))
        page.get_by_text("tidemill.verdict", exact=False).first.wait_for(timeout=60_000)
        if shots:
            page.screenshot(path=f"{shots}/version.png")
        assert not outside, outside
    except Exception:
        page.screenshot(path=str(tmp_path / "failed.png"))
        raise
    finally:
        assert clone.tidemill("down").returncode == 0


def second_generation(page, where: dict, run: str) -> None:
    """Prefect's V2 pages have the form in the run's menu.

    They ask an outside host, which our policy stops.
    """
    other = page.context.browser.new_page(viewport={"width": 1400, "height": 1000})
    other.goto(f"{where['prefect']}/v2/runs/flow-run/{run}")
    other.get_by_role("button", name="Open menu").last.click(timeout=60_000)
    other.get_by_role("menuitem", name="Resume").click()
    dialog = other.get_by_role("dialog")
    for words in ("is held", "the held version becomes the champion", "kept in the ledger"):
        dialog.get_by_text(words).first.wait_for(timeout=20_000)
    if shots:
        other.screenshot(path=f"{shots}/approval-v2.png")
    other.close()


def start(page, where: dict) -> None:
    """The form of the deployment, as a link fills it, looked at and sent."""
    from playwright.sync_api import TimeoutError

    from tests.support.prefect_api import ask

    found = ask(f"{where['prefect']}/api/deployments/name/retrain/retrain")
    filled = quote(
        json.dumps(
            {
                "application": "languages",
                "overrides": ["model.lr=0.0017"],
                "dry_run": False,
                "ask": True,
                "reason": "from the browser",
            }
        )
    )
    deployment = f"{where['prefect']}/deployments/deployment/{found['id']}"  # type: ignore[index]
    page.goto(f"{deployment}/run?parameters={filled}")
    for words in (
        "Which application",
        "each as key=value",
        "Stop after the verdict",
        "wait for a person",
    ):
        page.get_by_text(words).first.wait_for(timeout=60_000)
    page.locator(".p-select-button__value", has_text="languages").first.wait_for(timeout=20_000)
    page.wait_for_timeout(1500)  # the form validates what the link filled in before it can be sent
    if shots:
        page.screenshot(path=f"{shots}/form.png")
    for _ in range(6):  # a click before the form has validated itself is lost
        page.get_by_role("button", name="Submit").click()
        try:
            page.wait_for_url(re.compile("tab=Runs"), timeout=10_000)
            return
        except TimeoutError:
            continue
    raise AssertionError("the form was not sent")


def paused(clone: Clone, where: dict) -> str:
    from tests.support.prefect_api import ask, until

    api = f"{where['prefect']}/api"
    found: list = []

    def there() -> bool:
        found[:] = ask(
            f"{api}/flow_runs/filter",
            {
                "flow_runs": {
                    "state": {"type": {"any_": ["PAUSED", "COMPLETED", "FAILED", "CRASHED"]}}
                }
            },
        )  # type: ignore[call-overload]
        return bool(found)

    until(there, 300, "the run pauses for the form")
    assert found[0]["state_type"] == "PAUSED", found[0]["state"]["message"]
    return str(found[0]["id"])


def mlflow_link(where: dict, run: str) -> str:
    match = re.search(r"\((http[^)]*)\)", artifacts(where, run, "mlflow-run")[0])
    assert match
    return match.group(1)


def artifacts(where: dict, run: str, key: str) -> list[str]:
    """The texts of a run's artifacts of one key."""
    from tests.support.prefect_api import ask

    found = ask(
        f"{where['prefect']}/api/artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}},
    )
    return [str(item["data"]) for item in found]  # type: ignore[attr-defined]
