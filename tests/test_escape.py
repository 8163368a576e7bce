"""A text from outside is shown as it is wherever it goes, and does nothing there."""

import csv
import html
import io
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text
from rich.console import Console

from tests.conftest import Clone
from tests.support.site import Reply, Web, pages
from tidemill.runtime import escape

HOSTILE = (
    "=cmd() \x1b[31m\x1b]0;x\x07 [/b] [red]x :smile: <script>alert(1)</script> | "
    "[a](http://evil.example) ![b](http://evil.example/b.png) **bold** `code` $\\frac$ \u202ex\r\n"
    "error: it was not me &lt; www.evil.example me@evil.example"
)
ANY = st.text(st.characters(), max_size=60)  # surrogates too


def unseen(text: str) -> list[str]:
    """What moves a cursor or a reading direction; a line's end is the screen's own."""
    return [letter for letter in re.findall(r"[^\n\u200c\u200d]", text) if escape.line(letter)[1:2]]


@given(ANY)
def test_a_line_is_one_line_of_what_can_be_seen(text: str) -> None:
    shown = escape.line(text)
    assert not unseen(shown) and "\n" not in shown
    assert escape.line(shown) == shown
    shown.encode()


@given(ANY | st.just(HOSTILE))
def test_a_terminal_shows_a_text_as_it_is(text: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=10_000, emoji=False, highlight=False)
    console.print(f"[bold]{escape.terminal(text)}[/]", soft_wrap=True)
    shown = re.sub(r"\x1b\[\d+m", "", out.getvalue()).rstrip("\n")
    assert shown == escape.line(text)


def rendered(text: str) -> str:
    from markdown_it import MarkdownIt

    assert not re.search(r"(?<=\w)://(?=evil)|www\.evil|@evil", text)  # GFM makes links of them
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


@given(ANY | st.just(HOSTILE) | st.text("*_`[]()<>|~!#+-.=&;\\1a \n$@:/w", max_size=30))
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    for place in ("{}", "- {}", "> {}", "**x**: {}"):
        tags = set(re.findall(r"<(\w+)", rendered(place.format("x"))))
        page = rendered(place.format(escape.markdown(text)))
        assert set(re.findall(r"<(\w+)", page)) <= tags | {"p"}, page
        shown = html.unescape(re.sub(r"<[^>]*>", "", page))
        assert escape.line(text) in " ".join(shown.split()), page
    cell = f"| a | b |\n|---|---|\n| {escape.markdown(text)} | 1 |\n"
    assert rendered(cell).count("<td>") == 2


@given(ANY | st.just(HOSTILE))
def test_html_shows_a_text_as_it_is(text: str) -> None:
    shown = escape.html(text)
    assert not re.search(r"[<>\"']", shown)


@given(ANY | st.just(HOSTILE) | st.sampled_from(["=1", "+1", "-1", "@a", "\t=1", " =1", "\r=1"]))
def test_a_cell_is_no_formula(text: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerow([escape.csv_cell(text), escape.csv_cell(-1)])
    [row] = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r")) and row[1] == "-1"


@given(st.text("$\\{}^_ab frac", max_size=20))
def test_a_picture_shows_a_name_and_no_mathematics(text: str) -> None:
    assert not is_math_text(escape.plot(text))


def test_a_log_has_one_line_for_a_message() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 1, "from %s", (HOSTILE,), None)
    shown = escape.OneLine("%(message)s").format(record)
    assert "\n" not in shown and "\x1b" not in shown and r"\x1b" in shown


# One hostile text, followed everywhere ------------------------------------------------------------


def judged() -> Any:
    from tidemill.records.receipts import Finding, Judged

    finding = Finding(
        gate="better",
        kind="no_worse",
        slice=f"host={HOSTILE}",
        metric="accuracy",
        answer="pass",
        figure=0.9,
        low=0.8,
        high=0.95,
        rows=10,
        units=10,
        reason=HOSTILE,
    )
    row: dict[str, str | int | float | None] = {
        "slice": f"domain={HOSTILE}",
        "rows": 10,
        "units": 10,
        "candidate": 0.9,
        "low": 0.8,
        "high": 0.95,
    }
    return Judged(
        verdict="HOLD",
        because=HOSTILE,
        findings=[finding],
        table=[{**row, "slice": "all"}, row],
        notes=[HOSTILE],
    )


def harmless(page: str) -> None:
    """No link, picture, script or control character of the hostile text's in Markdown."""
    shown = rendered(page)
    assert "evil.example" in shown
    assert not re.search(r"<script|(href|src)=\"[^\"]*evil", shown), shown
    assert not unseen(page)


def test_artifacts_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import artifacts
    from tidemill.records.receipts import Collected, Snapshot, Stage

    made: list[dict[str, Any]] = []
    for name in ("create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(artifacts, name, lambda **artifact: made.append(artifact))
    collected = Collected.model_construct(
        source="a",
        records=1,
        fetched=1,
        unchanged=0,
        gone=0,
        refused=1,
        failed=0,
        reasons={HOSTILE: 1},
        hosts={HOSTILE: {"fetched": 1}},
        waiting={HOSTILE: HOSTILE},
    )
    stage = Stage.model_construct(stage="clean", name="a", rows=1, dropped={HOSTILE: 1}, ran=True)
    named = Snapshot.model_construct(digest="d" * 64, rows={"train": 1}, changed={})
    artifacts.what_came_in([collected], [stage], named)
    artifacts.sources([collected])
    artifacts.gates(judged())
    artifacts.verdict("languages", "Held", judged(), person=f"Ada: {HOSTILE}")
    assert len(made) == 4
    for artifact in made:
        for row in artifact.get("table", []):
            assert not unseen("".join(map(str, row.values()))) and "\n" not in str(row.values())
        for key in ("description", "markdown"):
            if "evil" in artifact.get(key, ""):
                harmless(artifact[key])


def test_the_card_and_the_datasheet_show_it(tmp_path: Path) -> None:
    import pandas as pd

    from tasks.datasheet import __main__ as datasheet
    from tasks.datasheet.counts import Facts
    from tasks.datasheet.figures import draw
    from tasks.register import card
    from tidemill.engines import config

    found = judged()
    written = card.Card(
        application="languages",
        summary="a summary",
        snapshot="s" * 64,
        key="k" * 64,
        digest="d" * 64,
        metric="accuracy",
        better="higher",
        definition="",
        facts=dict.fromkeys(("intended use", "out of scope", "limits", "risks"), "a fact"),
        sources=[card.Use(name=HOSTILE, role="train", licence=HOSTILE)],
        model={"dim": 4},
        seed=1,
        trainer={"name": "cpu", "precision": "32-true"},
        steps=1,
        shares={HOSTILE: 0.25},
        files={"model.onnx": ""},
        mb=1.0,
        verdict=found.verdict,
        because=found.because,
        notes=found.notes,
        alpha=0.05,
        table=found.table,
        findings=found.findings,
    )
    text = card.render(written)
    assert "25.0 %" in text
    harmless(text.split("---", 2)[2])
    assert not unseen(text)
    row = {
        "split": "train",
        "source": HOSTILE,
        "licence": HOSTILE,
        "host": HOSTILE,
        "language": HOSTILE,
        "chars": 10,
        "target": "a",
        "doc_id": "1",
    }
    facts = Facts(
        digest="d" * 64,
        examples=pd.DataFrame([row]),
        steps=[("clean a", 1, {HOSTILE: 1})],
        opt_outs=Counter({HOSTILE: 1}),
        fetched=("2026-11-01", "2026-11-02"),
        signals=pd.DataFrame({HOSTILE: [1.0, 2.0, 3.0]}),
        personal=Counter({HOSTILE: 1}),
        voters=[
            {
                "voter": HOSTILE,
                "kind": "rule",
                "coverage": 0.5,
                "overlap": 0.5,
                "conflict": 0.5,
                "accuracy": 0.5,
                "measured_on": HOSTILE,
            }
        ],
        small={"host": [HOSTILE]},
        weighted=1,
    )
    pictures = draw(facts, tmp_path)  # matplotlib reads $\frac$ as broken mathematics, and raises
    harmless(datasheet.words(config.recipe("languages"), facts, {}, {}, pictures))


def test_the_panel_shows_it() -> None:
    from tidemill.cli.panel import NightPanel
    from tidemill.records.receipts import Collected, DataHalf, End, Snapshot, Stage
    from tidemill.runtime.events import StepNote

    out = io.StringIO()
    with NightPanel(Console(file=out, force_terminal=False, width=200)) as night:
        night.line(HOSTILE)
        end = {"application": "a", "state": "Held", "because": HOSTILE, "key": "", "at": ""}
        night("end", End.model_validate({**end, "snapshot": ""}))
        night("judged", judged())
        counts = dict.fromkeys(("fetched", "unchanged", "gone", "refused", "failed"), 1)
        item = Collected(source=HOSTILE, records=1, raw="", **counts)
        stage = Stage(stage="clean", name=HOSTILE, ran=True, rows=1, dropped={HOSTILE: 2})
        named = Snapshot(recipe="a", digest="", rows={HOSTILE: 1}, names=[HOSTILE], pushed=True)
        night("data", DataHalf(collected=[item], stages=[stage], snapshot=named))
        night("snapshot a", StepNote(HOSTILE))
        night.console.print(night.panel())
    assert not unseen(out.getvalue()) and "[/b]" in out.getvalue() and ":smile:" in out.getvalue()


def test_a_page_with_a_hostile_title_and_header_ends_no_command_and_is_shown_as_it_is(
    clone: Clone,
) -> None:
    words = "All human beings are born free and equal in dignity and rights. " * 4
    title = html.escape(HOSTILE.replace("\x1b", "").replace("\x07", ""))
    page = f"<html lang='{html.escape('[/b]$x', True)}'><title>{title}</title><p>{words}</p></html>"
    headers: dict[str, str] = {}
    robots = "noai, [/b] [link=//evil.example]x[/link]"

    def one(_: Any) -> Reply:
        return Reply(page.encode(), media="text/html", headers=headers)

    allowed = Reply(b"User-agent: *\nAllow: /\n", media="text/plain")
    with Web(a=pages(robots=lambda ask: allowed, one=one)) as web:
        address, port = web.mirrors["a.localhost"]
        (clone.folder / "conf" / "source" / "small.yaml").write_text(
            f"kind: web\nlicence: CC0-1.0\nhosts: [{address}]\n"
            f"seeds: ['http://{address}:{port}/one']\nports: [{port}]\nallow_loopback: true\n"
            "delay_s: 0\nselector:\n  - {kind: whole, name: page}\nclean: {min_letters: 10}\n"
        )
        done = clone.run("tasks.collect", "small")
        assert done.returncode == 0, done.stderr
        where = f"http://{address}:{port}/one"
        headers["X-Robots-Tag"] = robots
        check = clone.tidemill("sources", "check", "small", where)
        assert check.returncode == 0 and "[/b] [link=//evil.example]" in check.stdout, check
        shown = check.stdout
        for arguments in (["sources"], ["trace", where], ["trace", f"{where}?[/b]\x1b[31m"]):
            done = clone.tidemill(*arguments)
            assert done.returncode == 0, done.stderr
            shown += done.stdout + done.stderr
    assert not unseen(shown)
    for log in (clone.folder / ".tidemill").rglob("*.log"):
        assert "\x1b" not in log.read_text()


def test_the_list_of_a_models_pages_has_no_formula(tmp_path: Path) -> None:
    from tidemill.lineage import trace

    row = dict.fromkeys([*trace.COLUMNS, "split", "examples"], HOSTILE)
    trace.save([row], tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(newline="") as file:
        _, cells = csv.reader(file)
    assert all(cell.startswith("'=cmd") and "\n" not in cell for cell in cells)


def test_json_of_a_command_has_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    from tidemill.cli.arguments import out

    out({"title": HOSTILE + "\x7f\x9b\u2028\ud800"})
    text = capsys.readouterr().out
    assert not unseen(text) and json.loads(text)["title"].startswith("=cmd() \x1b")
