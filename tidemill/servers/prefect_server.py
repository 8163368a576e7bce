"""python -m tidemill.servers.prefect_server PORT HOST ...: Prefect's server, on loopback.

`prefect server start` takes any Host header, so that a page elsewhere could have its own name
lead to this machine (DNS rebinding) and start flows, and it takes changes from any page
(see own_pages.py). MLflow checks both by itself.
"""

import logging
import os
import sys

from tidemill.runtime import paths


def own_origins(port: str, hosts: list[str]) -> list[str]:
    """The origins of Prefect's own pages: by each host name, and as `tidemill up` publishes it."""
    published = os.environ.get("PREFECT_UI_URL", "").rstrip("/")
    return [*(f"http://{host}:{port}" for host in hosts), *([published] if published else [])]


def main() -> None:
    paths.settle()
    port, *hosts = sys.argv[1:]
    import uvicorn
    from prefect.server.api.server import create_app

    import tidemill.engines.prefect.mail  # noqa: F401  (an automation may send mail)
    from tidemill.servers.own_pages import OwnPages

    logging.basicConfig(level=logging.WARNING)
    app = create_app(final=True)
    app.add_middleware(OwnPages, hosts=hosts, origins=own_origins(port, hosts))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", timeout_keep_alive=5)


if __name__ == "__main__":
    main()
