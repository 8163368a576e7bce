"""Where each service listens: its usual port on loopback, the one asked for, or any free one."""

import socket
import urllib.request

from tidemill.runtime.errors import Refused

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000, "serve": 8000}


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(name: str, given: int | None) -> int:
    """The port a service gets: the one asked for, or its usual one, or any that is free."""
    if given is not None:
        if not 1 <= given <= 65535:
            raise Refused(f"--{name}-port {given} is no port; it is between 1 and 65535")
        if not free(given):
            raise Refused(
                f"port {given} for {name} is in use; name another with --{name}-port, or leave it "
                "out"
            )
        return given
    if free(PORTS[name]):
        return PORTS[name]
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def urls(ports: dict[str, int]) -> dict[str, str]:
    return {name: f"http://{HOST}:{port}" for name, port in ports.items()}


def answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=2
        ) as response:
            return response.status == 200
    except OSError:
        return False
