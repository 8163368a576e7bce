"""python -m tidemill.servers.prefect_server PORT HOST ...: Prefect's server on loopback, which answers to these host names alone.

`prefect server start` takes any Host header, so a page elsewhere could have its own name lead to this machine (DNS
rebinding) and start flows. MLflow checks the name by itself.
"""

import logging
import sys

from tidemill.runtime import paths


def main() -> None:
    paths.settle()
    port, *hosts = sys.argv[1:]
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    import tidemill.engines.prefect.mail  # noqa: F401  (an automation may tell by mail)

    logging.basicConfig(level=logging.WARNING)
    app = create_app(final=True)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", timeout_keep_alive=5)


if __name__ == "__main__":
    main()
