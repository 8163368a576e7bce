"""A collector that a person names gets a span for each request, and none of what was asked."""

import gzip
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.util.http import parse_excluded_urls

from tasks.serve import telemetry
from tests.support.serving import Project, serving
from tidemill.runtime.errors import Refused

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "Jeder Mensch hat das Recht auf Leben"


class Collector:
    """A server on loopback that takes traces as OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_each_request_is_a_span_of_its_callers_trace_without_what_was_asked(
    project: Project, collector: Collector
) -> None:
    with serving(project, "languages", OTEL_EXPORTER_OTLP_ENDPOINT=collector.address) as running:
        parent = {"traceparent": f"00-{CALLER}-00f067aa0ba902b7-01"}
        code, _, _ = running.ask("POST", "/v1/languages/predict", {"text": SECRET}, parent)
        assert code == 200
        assert running.ask("GET", "/v1/nobody")[0] == 404
    spans = {
        attribute.value.int_value: span
        for span in collector.spans()
        for attribute in span.attributes
        if attribute.key in ("http.status_code", "http.response.status_code")
    }
    assert spans.keys() == {200, 404}, collector.spans()  # and none of /ready
    assert spans[200].name == "POST /v1/languages/predict"
    assert spans[200].trace_id.hex() == CALLER and spans[404].trace_id.hex() != CALLER
    assert spans[200].kind == Span.SPAN_KIND_SERVER
    assert spans[200].end_time_unix_nano > spans[200].start_time_unix_nano
    assert collector.services() == {"tidemill"}
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_collector_that_is_away_costs_no_answer(project: Project) -> None:
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with serving(project, "languages", **nowhere) as running:
        assert all(running.predict("languages", {"text": SECRET})[0] == 200 for _ in range(3))
        running.process.terminate()
        assert running.process.wait(20) in (0, -signal.SIGTERM), running.log.read_text()


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "console,otlp"},
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ],
)
def test_traces_are_sent_where_the_standard_variables_ask_for_them(
    variables: dict[str, str], asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*telemetry.COLLECTORS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert telemetry.asked() == asked


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was without effect, and no trace ever came."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    telemetry.may_trace()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(Refused, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'.*http/protobuf"):
        telemetry.may_trace()


@pytest.mark.parametrize(
    ("url", "left_out"),
    [
        ("http://127.0.0.1:8000/ready", True),
        ("http://127.0.0.1:8000/health/", True),
        ("http://127.0.0.1:8000/v1/healthcare/predict", False),  # an application of that name
        ("https://metrics.example/v1/languages/predict", False),
    ],
)
def test_probes_alone_have_no_span(url: str, left_out: bool) -> None:
    assert parse_excluded_urls(telemetry.UNASKED).url_disabled(url) is left_out


def test_traces_that_nothing_can_send_are_refused_before_the_address_is_named(
    project: Project,
) -> None:
    """In a process that does not see the extra's packages."""
    hidden = (
        "import importlib.util as u, runpy, sys; real = u.find_spec; "
        "u.find_spec = lambda name, *more: None if name.startswith('opentelemetry.') "
        "else real(name, *more); "
        "runpy.run_module('tasks.serve', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden, "languages", "--port", "0"],
        cwd=project.folder,
        env={**os.environ, **project.clone.env, telemetry.COLLECTORS[1]: "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "telemetry" in line and "pip install" in line and telemetry.COLLECTORS[1] in line
