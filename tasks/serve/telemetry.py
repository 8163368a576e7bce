"""Traces of requests by OpenTelemetry, where its own variables name a collector.

Without one nothing is loaded and nothing is sent. A span has the method, the route, the status and
the times; neither the question nor the answer. A caller's `traceparent` is continued (W3C Trace
Context).
"""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec

from starlette.types import ASGIApp

from tidemill.runtime.errors import Refused

log = logging.getLogger(__name__)
COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NEEDED = ("opentelemetry.instrumentation", "opentelemetry.exporter")
UNASKED = "^[a-z]+://[^/]+/(health|ready|metrics)/?$"  # machines ask them every few seconds
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OURS = "http/protobuf"
FLUSH_MS = 2_000


def asked() -> str | None:
    """The variable that names a collector of traces, where one does."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if "otlp" not in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        return None
    return next((name for name in COLLECTORS if os.environ.get(name)), None)


def may_trace() -> None:
    """Refuses a collector that nothing here could send to: by its protocol, or by what is there."""
    variable = asked()
    other = next((name for name in PROTOCOLS if os.environ.get(name)), None)
    if variable and other and os.environ[other] != OURS:
        raise Refused(
            f"{other} is {os.environ[other]!r}: traces are sent by {OURS} alone; say that, or "
            f"leave it out, and name the collector's port for it in {variable} (4318 by default)"
        )
    if variable and not all(find_spec(name) for name in NEEDED):
        raise Refused(
            f"{variable} asks for traces, but the extra 'telemetry' is not installed; "
            "pip install 'tidemill[telemetry]', or unset the variable"
        )


def traced(app: ASGIApp) -> tuple[ASGIApp, Callable[[], None]]:
    """The application with a span for each request, and what sends the last of them."""
    variable = asked()
    if variable is None:
        return app, lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.util.http import parse_excluded_urls

    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before ours.
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "tidemill"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    log.info("traces of requests go to the collector in %s", variable)

    def close() -> None:
        provider.force_flush(FLUSH_MS)
        provider.shutdown()

    middleware = OpenTelemetryMiddleware(
        app,
        excluded_urls=parse_excluded_urls(UNASKED),
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
    return middleware, close
