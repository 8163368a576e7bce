"""Real servers from one command: up, seen, killed, mended, down."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import CANARY, HERE, Clone, make_clone
from tests.support.prefect_api import ask, until
from tests.support.webhook import listening
from tidemill.engines import config

LEAVES_ONE = """
import subprocess, time
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def answered(url: str, **headers: str) -> int:
    """The status of an answer."""
    try:
        return (
            urllib.request.build_opener(urllib.request.ProxyHandler({}))
            .open(urllib.request.Request(url, headers=headers), timeout=20)
            .status
        )
    except urllib.error.HTTPError as error:
        return error.code


def flow_run(api: str, run: str) -> dict:
    return ask(f"{api}/flow_runs/{run}")  # type: ignore[return-value]


def start(clone: Clone, *more: str) -> dict:
    done = clone.tidemill("up", "--detach", "--json", *more, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def up(lived: Clone) -> Iterator[tuple[Clone, dict]]:
    """The servers of a clone that promoted a model before they were started, under a proxy that is
    dead.
    """
    for name in ("NO_PROXY", "no_proxy"):
        lived.env.pop(name, None)
    lived.env |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    where = start(lived)
    yield lived, where
    assert lived.tidemill("down").returncode == 0


def family(where: dict) -> list[psutil.Process]:
    return psutil.Process(where["pid"]).children(recursive=True)


def service(where: dict, words: str) -> psutil.Process:
    """The process of a service."""
    return next(item for item in family(where) if words in line(item))


def line(process: psutil.Process) -> str:
    """What a process was started as; nothing where it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def trigger(where: dict, deployment: str, parameters: dict) -> str:
    api = f"{where['prefect']}/api"
    found = ask(f"{api}/deployments/name/{deployment}/{deployment}")
    return ask(
        f"{api}/deployments/{found['id']}/create_flow_run",
        {"parameters": parameters, "state": {"type": "SCHEDULED"}},
    )["id"]  # type: ignore[index]


def ended(where: dict, run: str, seconds: float = 240) -> dict:
    found: dict = {}

    def over() -> bool:
        try:
            found.update(flow_run(f"{where['prefect']}/api", run))
        except OSError:  # a server that was killed is not there at once
            return False
        return found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    until(over, seconds, f"run {run} ends")
    return found


def test_after_a_run_git_has_nothing_to_say(lived: Clone) -> None:
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=lived.folder, capture_output=True, text=True
    )
    # The small clone's graph is made by the run; the project's own is tracked.
    assert done.returncode == 0 and set(done.stdout.splitlines()) <= {"?? dvc.yaml"}


def test_a_second_up_says_where_the_first_is(up: tuple[Clone, dict]) -> None:
    clone, where = up
    again = clone.tidemill("up")
    assert (
        again.returncode == 0
        and where["prefect"] in again.stdout
        and where["mlflow"] in again.stdout
        and "already" in again.stdout
    )


def test_every_socket_is_on_loopback(up: tuple[Clone, dict]) -> None:
    _, where = up
    open_ones = [
        socket_.laddr
        for process in family(where)
        for socket_ in process.net_connections()
        if socket_.status == psutil.CONN_LISTEN
    ]
    assert len(open_ones) >= 2
    assert {address.ip for address in open_ones} <= {"127.0.0.1", "::1"}


def test_the_forms_offer_the_applications_and_say_what_each_field_does(
    up: tuple[Clone, dict],
) -> None:
    _, where = up
    found = {
        item["name"]: item["parameter_openapi_schema"]
        for item in ask(f"{where['prefect']}/api/deployments/filter", {})
    }  # type: ignore[attr-defined]
    assert set(found) == {
        "answer",
        "retrain",
        "nightly",
        "collect",
        "sweep",
        "approve",
        "rollback",
        "verify",
        "watch",
    }
    assert found["retrain"]["definitions"]["Application"]["enum"] == config.files("recipe")
    for name, schema in found.items():
        assert all(field.get("description") for field in schema["properties"].values()), name


def test_a_model_made_before_is_on_mlflows_page_and_a_strange_host_is_turned_away(
    up: tuple[Clone, dict],
) -> None:
    _, where = up
    found = ask(
        f"{where['mlflow']}/api/2.0/mlflow/registered-models/alias?name=languages&alias=champion"
    )
    assert found["model_version"]["version"]  # type: ignore[index]
    for url in (
        f"{where['mlflow']}/api/2.0/mlflow/registered-models/alias?name=languages&alias=champion",
        f"{where['prefect']}/api/admin/version",
    ):
        assert answered(url) == 200
        assert answered(url, Host="evil.example") in (400, 403), (
            "a page elsewhere whose name leads here could start runs"
        )


@pytest.mark.apps
def test_a_night_with_nothing_new_is_unchanged_and_one_that_is_on_wins(
    up: tuple[Clone, dict],
) -> None:
    clone, where = up
    first, second = (
        trigger(where, "nightly", {"applications": ["languages"]}),
        trigger(where, "nightly", {"applications": ["languages"]}),
    )
    ends = {run: ended(where, run) for run in (first, second)}
    names = sorted(end["state"]["name"] for end in ends.values())
    assert names in (["Night", "Skipped"], ["Night", "Night"]), ends
    night = next(end for end in ends.values() if end["state"]["name"] == "Night")
    assert "languages Unchanged" in night["state"]["message"]
    assert night["name"].startswith("night of ")
    assert (
        "languages" in json.loads((clone.folder / ".tidemill" / "night.json").read_text())["ends"]
    )


def test_the_champion_answers_over_http(up: tuple[Clone, dict]) -> None:
    _, where = up
    until(
        lambda: ask(f"{where['serve']}/health")["applications"].get("languages", {}).get("version"),
        30,
        "the champion is loaded",
    )  # type: ignore[index]
    assert (
        ask(
            f"{where['serve']}/v1/languages/predict",
            {"text": "Jeder hat das Recht auf Leben und Freiheit."},
        )["language"]
        == "deu"
    )  # type: ignore[index]


@pytest.mark.apps
def test_an_application_that_fails_leaves_the_others_their_night(up: tuple[Clone, dict]) -> None:
    clone, where = up
    path = clone.folder / "conf/recipe/stocks.yaml"
    before = path.read_text()
    clone.edit("recipe/stocks.yaml", lambda body: body.update(gates=[]))
    try:
        end = ended(where, trigger(where, "nightly", {"applications": ["stocks", "languages"]}))
    finally:
        path.write_text(before)
    assert end["state_type"] == "FAILED"
    assert (
        "no gates, no promotion" in end["state"]["message"]
        and "languages Unchanged" in end["state"]["message"]
    )


@pytest.mark.apps
def test_a_run_killed_with_its_machine_is_crashed_within_ninety_seconds_and_the_next_goes_on(
    up: tuple[Clone, dict],
) -> None:
    clone, where = up
    run = subprocess.Popen(
        [sys.executable, "-m", "tidemill.cli", "run", "languages", "model.lr=0.0021", "--dry-run"],
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    api = f"{where['prefect']}/api"
    filters = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}

    def ids() -> list[str]:
        return [
            found["id"]
            for found in ask(f"{api}/flow_runs/filter", filters)
            if "model.lr=0.0021" in found["parameters"].get("overrides", ())
        ]  # type: ignore[attr-defined]

    until(ids, 60, "the run is on Prefect's page")
    (running,) = ids()
    until(
        (clone.folder / ".tidemill" / "alive" / f"{running}.json").is_file,
        20,
        "the run notes its process",
    )
    run.kill()
    run.wait()
    until(lambda: flow_run(api, running)["state_type"] == "CRASHED", 90, "the dead run is Crashed")
    again = clone.tidemill("run", "languages", "model.lr=0.0021", "--dry-run", "--json")
    assert json.loads(again.stdout)["state"] == "DryRun", again.stderr


@pytest.mark.apps
def test_a_service_that_dies_is_started_again(up: tuple[Clone, dict]) -> None:
    _, where = up
    old = service(where, "mlflow.server")
    assert not old.children(), "a launcher that only waits costs 250 MB"
    old.kill()
    until(
        lambda: any("mlflow" in line(item) and item.pid != old.pid for item in family(where)),
        60,
        "MLflow is started again",
    )

    def answers() -> bool:
        try:
            return (
                urllib.request.build_opener(urllib.request.ProxyHandler({}))
                .open(f"{where['mlflow']}/health", timeout=2)
                .status
                == 200
            )
        except OSError:
            return False

    until(answers, 240, "MLflow answers again")


@pytest.mark.apps
def test_down_leaves_nothing_and_up_finds_everything_again(up: tuple[Clone, dict]) -> None:
    clone, where = up
    processes = family(where)
    began = time.monotonic()
    assert clone.tidemill("down").returncode == 0
    assert (
        time.monotonic() - began < 30
    )  # ten seconds, and the command's own start, on a machine that does other work too
    assert not [
        item for item in processes if item.is_running() and item.status() != psutil.STATUS_ZOMBIE
    ]
    assert "nothing was up" in clone.tidemill("down").stdout
    again = start(clone)
    assert [
        item["name"]
        for item in ask(
            f"{again['prefect']}/api/flow_runs/filter",
            {
                "flow_runs": {
                    "name": {"like_": "night of"},
                    "state": {"type": {"any_": ["COMPLETED"]}},
                }
            },
        )
    ]  # type: ignore[attr-defined]
    where.update(again)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone", git=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = clone.tidemill("up", "--prefect-port", str(taken.getsockname()[1]))
    assert done.returncode == 2 and "in use" in done.stderr and "--prefect-port" in done.stderr


@pytest.mark.parametrize(
    ("name", "login", "words"),
    [
        ("factory", "ada:a-long-password", "is no host name"),
        ("factory.example.org", None, "PREFECT_SERVER_API_AUTH_STRING"),
        ("factory.example.org", "admin:pass", "12 characters"),
        ("factory.example.org", "a-long-password-alone", "user:password"),
    ],
)
def test_nobody_elsewhere_sees_the_pages_without_a_login(
    monkeypatch: pytest.MonkeyPatch, name: str, login: str | None, words: str
) -> None:
    from tidemill.runtime.errors import Refused
    from tidemill.servers.logins import check

    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    if login:
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", login)
    with pytest.raises(Refused, match=words):
        check(name)


@pytest.mark.apps
def test_in_public_both_servers_ask_for_a_login_and_ours_run_on(tmp_path: Path) -> None:
    import base64

    clone = make_clone(tmp_path / "clone", git=False)
    secret = "ada:a-long-password-of-a-test"
    clone.env["PREFECT_SERVER_API_AUTH_STRING"] = secret
    both = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tidemill.cli",
                "up",
                "--detach",
                "--json",
                "--public",
                "factory.example.org",
            ],
            cwd=clone.folder,
            env=clone.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [json.loads(item.communicate(timeout=180)[0]) for item in both]
    where = said[0]
    try:
        assert said[0] == said[1], (
            "of two at once one starts the servers, and both say where they are"
        )
        login = json.loads((clone.folder / ".tidemill/keys/mlflow-login.json").read_text())
        assert (
            clone.folder / ".tidemill/keys/mlflow-login.json"
        ).stat().st_mode & 0o077 == 0 and len(login["password"]) > 20
        for url, who in (
            (f"{where['prefect']}/api/admin/version", secret),
            (
                f"{where['mlflow']}/api/2.0/mlflow/experiments/get?experiment_id=0",
                f"{login['user']}:{login['password']}",
            ),
        ):
            assert answered(url) == 401
            assert (
                answered(
                    url, Authorization="Basic " + base64.b64encode(b"admin:password1234").decode()
                )
                == 401
            )
            assert (
                answered(url, Authorization="Basic " + base64.b64encode(who.encode()).decode())
                == 200
            )
        refused = clone.tidemill("status")
        assert refused.returncode == 2 and "PREFECT_API_AUTH_STRING" in refused.stderr
        assert clone.tidemill("status", "--json", PREFECT_API_AUTH_STRING=secret).returncode == 0
        kept = b"".join(
            path.read_bytes()
            for path in (clone.folder / ".tidemill").rglob("*")
            if path.is_file() and path.name != "mlflow-login.json"
        )
        assert login["password"].encode() not in kept and secret.encode() not in kept
    finally:
        assert clone.tidemill("down").returncode == 0


def test_a_server_of_somebody_else_on_our_port_is_not_taken_for_ours() -> None:
    from tidemill.servers.supervisor import ours

    sleeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import socket,subprocess,sys; subprocess.run([sys.executable, '-c', 'import "
            'socket,time; s=socket.create_server(("127.0.0.1",0)); print(s.getsockname()[1], '
            "flush=True); time.sleep(60)'])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sleeper.stdout is not None
        port = int(sleeper.stdout.readline())
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert ours(sleeper, f"http://127.0.0.1:{port}")  # type: ignore[arg-type]
            others = other.getsockname()[1]
            assert not ours(sleeper, f"http://127.0.0.1:{others}")  # type: ignore[arg-type]
    finally:
        for child in psutil.Process(sleeper.pid).children():
            child.kill()
        sleeper.wait()


def test_a_notice_reaches_a_webhook_and_a_mailbox_and_a_dead_one_fails_nothing(
    up: tuple[Clone, dict],
) -> None:
    from aiosmtpd.controller import Controller

    clone, where = up
    mails: list[bytes] = []

    class Mailbox:
        async def handle_DATA(self, server, session, envelope) -> str:
            mails.append(envelope.content)
            return "250 OK"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mailbox = Controller(Mailbox(), hostname="127.0.0.1", port=port)
    mailbox.start()

    code = (
        "import sys; from tidemill.runtime import paths; paths.settle()\n"
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook\n"
        "Hook(name='sink', url=sys.argv[1], json_data={'text': '{{subject}}: {{body}}'})"
        ".save('sink', overwrite=True)\n"
        "Hook(name='dead', url='http://127.0.0.1:9/', json_data={'text': 'x'}).save('dead', "
        "overwrite=True)\n"
        "from tidemill.engines.prefect.mail import Mail\n"
        f"Mail(host='127.0.0.1', port={port}, security='none', sender='mill@factory.example', "
        "to=['ada@factory.example']).save('box', overwrite=True)\n"
        "from tidemill.engines.prefect.notices import notify\n"
        "print(notify('languages: Held', 'not enough evidence', 'Held'), notify('languages: "
        "Unchanged', '', 'Unchanged'))\n"
    )

    def named(body: dict) -> None:
        body["notices"]["blocks"] = ["custom-webhook/dead", "custom-webhook/sink", "mail/box"]

    before = (clone.folder / "conf" / "config.yaml").read_text()
    clone.edit("config.yaml", named)
    with listening() as (address, heard):
        done = subprocess.run(
            [sys.executable, "-c", code, address],
            cwd=clone.folder,
            env=clone.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
    (clone.folder / "conf" / "config.yaml").write_text(before)
    mailbox.stop()
    assert done.stdout.split()[-2:] == ["2", "0"], done.stdout + done.stderr
    assert (
        len(mails) == 1
        and b"Subject: Tidemill: languages: Held" in mails[0]
        and b"not enough evidence" in mails[0]
    )
    assert "mail" in [
        item["slug"] for item in ask(f"{where['prefect']}/api/block_types/filter", {})
    ], "the page Blocks offers it"  # type: ignore[attr-defined]
    assert len(heard) == 1 and "Tidemill: languages: Held: not enough evidence" in heard[0]


def test_old_runs_go_and_what_a_version_needs_stays(lived: Clone) -> None:
    runs = lived.folder / ".tidemill" / "runs"
    old = runs / ("f" * 16)
    old.mkdir()
    (old / "plan.json").write_text("{}")
    for path in (old / "plan.json", old):
        os.utime(path, (0, 0))
    live = [path for path in runs.iterdir() if (path / "promote.json").is_file()]
    for path in [item for folder in live for item in (*folder.rglob("*"), folder)]:
        os.utime(path, (0, 0))
    dry = json.loads(lived.tidemill("clean", "--dry-run", "--json").stdout)
    assert list(dry["paths"]) == [f".tidemill/runs/{'f' * 16}"] and old.is_dir()
    assert set(dry["kept"]) == {
        f".tidemill/runs/{path.name}" for path in live
    } and "is @champion" in " ".join(dry["kept"].values())
    lived.tidemill("clean")
    assert not old.is_dir() and all(path.is_dir() for path in live)


def test_a_secret_of_the_environment_is_kept_nowhere(up: tuple[Clone, dict]) -> None:
    """After runs, nights, a crash and notices: in no file of the project, databases and logs
    included.
    """
    clone, _ = up
    found = [
        path
        for path in clone.folder.rglob("*")
        if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes()
    ]
    assert not found
    assert (clone.folder / ".tidemill").stat().st_mode & 0o077 == 0


@pytest.mark.system
def test_each_service_killed_in_the_middle_of_a_run_makes_no_second_version(
    up: tuple[Clone, dict],
) -> None:
    clone, where = up
    for number, words in enumerate(
        ("tidemill.servers.prefect_server", "mlflow.server", "flows.deployments")
    ):
        run = trigger(
            where,
            "retrain",
            {"application": "languages", "overrides": [f"model.lr=0.00{31 + number}"]},
        )
        until(
            lambda run=run: flow_run(f"{where['prefect']}/api", run)["state_type"] == "RUNNING",
            60,
            "the run begins",
        )
        time.sleep(6 + 4 * number)
        os.kill(service(where, words).pid, signal.SIGKILL)
        time.sleep(20)
        end = ended(where, run, 300)
        if end["state_type"] != "COMPLETED":
            again = clone.tidemill("run", "languages", f"model.lr=0.00{31 + number}", "--json")
            assert again.returncode == 0, again.stderr
    versions = ask(
        f"{where['mlflow']}/api/2.0/mlflow/model-versions/search?filter=name%3D%27languages%27"
    )["model_versions"]  # type: ignore[index]
    digests = [
        next(tag["value"] for tag in item["tags"] if tag["key"] == "tidemill.digest")
        for item in versions
    ]
    assert len(digests) == len(set(digests))


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_the_tour_ends_as_it_tells(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone", git=False)
    for name in ("udhr", "software", "django"):  # the tour cuts its own slices
        (clone.folder / "conf/source" / f"{name}.yaml").write_bytes(
            (HERE / "conf/source" / f"{name}.yaml").read_bytes()
        )
    (clone.folder / "conf/recipe/languages.yaml").write_bytes(
        (HERE / "conf/recipe/languages.yaml").read_bytes()
    )
    try:
        done = clone.run("tidemill.cli.tour", timeout=1700)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        for words in ("was killed (-9)", "identical", "Unchanged", "Rejected"):
            assert words in done.stdout
    finally:
        there = clone.folder / ".tidemill/tour"
        subprocess.run(
            [sys.executable, "-m", "tidemill.cli", "down"],
            cwd=there,
            env={**clone.env, "PYTHONPATH": str(there)},
            timeout=60,
        )


def test_what_a_killed_service_leaves_ends_with_it(tmp_path: Path) -> None:
    """A service whose own child goes on after it is killed by -9; and one whose keeper is."""
    code = LEAVES_ONE
    for who in ("service", "keeper"):
        keeper = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tidemill.runtime.lifetimes.subreaper",
                sys.executable,
                "-c",
                code,
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )
        assert keeper.stdout is not None
        grandchild = psutil.Process(int(keeper.stdout.readline()))
        it = psutil.Process(keeper.pid).children()[0]
        (it if who == "service" else psutil.Process(keeper.pid)).kill()
        keeper.wait(10)
        until(
            lambda it=it: not it.is_running() or it.status() == psutil.STATUS_ZOMBIE,
            10,
            "the service ends with its keeper",
        )
        if who == "service":
            until(lambda child=grandchild: not child.is_running(), 10, "what it left ends")
        elif grandchild.is_running():
            grandchild.kill()  # its service had its TERM and could have ended it


def test_what_a_service_left_ends_while_its_supervisor_lives_on() -> None:
    """A supervisor with a service that has a child; the service is killed by -9."""
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {LEAVES_ONE!r}])
print(child.pid, flush=True)
child.wait()
time.sleep(60)
"""
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tidemill.runtime.lifetimes.subreaper", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    assert keeper.stdout is not None
    killed, left = (psutil.Process(int(keeper.stdout.readline())) for _ in range(2))
    try:
        time.sleep(1.5)  # it looks twice a second
        killed.kill()
        until(lambda: not left.is_running(), 15, "what the service left ends")
        assert keeper.poll() is None
    finally:
        keeper.terminate()
        keeper.wait(15)
