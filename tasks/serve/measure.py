"""What Prometheus may ask of the server.

One process, or several that write to one folder (PROMETHEUS_MULTIPROC_DIR).
"""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter(
    "tidemill_requests",
    "Requests for predictions, by the answer's status and the version that gave it.",
    ["application", "version", "status"],
)
LATENCY = Histogram(
    "tidemill_latency_seconds",
    "From the request's head to its answer, but for those turned away by their head.",
    ["application"],
    buckets=SECONDS,
)
QUEUE = Gauge(
    "tidemill_queue",
    "Questions that wait or are being answered.",
    ["application"],
    multiprocess_mode="livesum",
)
BATCH = Histogram(
    "tidemill_batch_size", "Questions the model was asked at once.", ["application"], buckets=SIZES
)
WRITING = Gauge(
    "tidemill_writing",
    "Texts that are being written side by side, in OpenAI's form.",
    ["application"],
    multiprocess_mode="livesum",
)
WRITTEN = Histogram(
    "tidemill_writing_step", "Texts that shared a step.", ["application"], buckets=SIZES
)
FIRST_TOKEN = Histogram(
    "tidemill_first_token_seconds",
    "From a request's coming in OpenAI's form to its first token.",
    ["application"],
    buckets=SECONDS,
)
VERSION = Gauge(
    "tidemill_version",
    "The champion that answers, as a number.",
    ["application"],
    multiprocess_mode="livemostrecent",
)
SWAPS = Counter("tidemill_swaps", "How often another version began to answer.", ["application"])
REFUSED = Counter(
    "tidemill_refused_versions",
    "Versions that were not let in, because they are damaged, unsigned or do not answer.",
    ["application"],
)
COMPARED = Counter(
    "tidemill_challenger_compared",
    "Questions that champion and challenger were both asked.",
    ["application"],
)
DIFFERED = Counter(
    "tidemill_challenger_differed", "Those of them that they answered otherwise.", ["application"]
)
REGISTRY = Gauge(
    "tidemill_registry_up",
    "Whether the registry answered when it was last asked.",
    multiprocess_mode="livemin",
)


def exposition() -> bytes:
    """The text that Prometheus reads, of all workers together."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
