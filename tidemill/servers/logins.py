"""What `tidemill up --public NAME` asks for before anybody elsewhere may see the pages.

A login for each server, and TLS before them.

Prefect's login is the person's own, from the environment. MLflow's is made here, once, and lies
where only its owner reads it.
"""

import json
import os
import re
import secrets

from tidemill.runtime import addresses, paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import write

VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
SHORTEST = 12  # characters of a password
KNOWN = {"admin:pass", "admin:password", "admin:admin", "prefect:prefect", "user:password"}


def check(name: str) -> None:
    """Refuse a name that is none, and a server without a login of its own."""
    if not re.fullmatch(
        r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
        r"(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+",
        name,
    ):
        raise Refused(
            f"--public {name!r} is no host name; give the one people will reach this machine by, "
            "as factory.example.org"
        )
    given = os.environ.get(VARIABLE, "")
    user, sign, password = given.partition(":")
    if not sign or not user or len(password) < SHORTEST or given.lower() in KNOWN:
        raise Refused(
            f"--public needs a login for Prefect: set {VARIABLE}=user:password with a password of "
            f"{SHORTEST} characters or more, and PREFECT_API_AUTH_STRING to the same for those "
            "who use it"
        )
    try:
        import flask_wtf  # noqa: F401
    except ImportError as error:
        raise Refused(
            "--public needs MLflow's login, and Flask-WTF for it; run make setup"
        ) from error


def mlflow_login() -> dict[str, str]:
    """MLflow's login, made at first use: a password nobody chose, never a default."""
    path = paths.mlflow_login()
    if not path.is_file():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(
            path,
            json.dumps(
                {
                    "user": "admin",
                    "password": secrets.token_urlsafe(24),
                    "session": secrets.token_hex(32),
                }
            )
            + "\n",
        )
        path.chmod(0o600)
    return dict(json.loads(path.read_text()))


def environment() -> dict[str, str]:
    """What the servers and their clients run with: both logins."""
    login = mlflow_login()
    settings = paths.state("keys", "mlflow-auth.ini")
    # The password is not in here: MLflow takes it from its environment.
    database = addresses.sqlite(paths.state("mlflow-auth.db")).replace("%", "%%")
    lines = [
        "[mlflow]",
        "default_permission = NO_PERMISSIONS",
        f"database_uri = {database}",
        f"admin_username = {login['user']}",
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds = 60",
    ]
    write(settings, "\n".join(lines) + "\n")
    settings.chmod(0o600)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": login["user"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": login["password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": login["session"],
        "MLFLOW_TRACKING_USERNAME": login["user"],
        "MLFLOW_TRACKING_PASSWORD": login["password"],
        VARIABLE: os.environ[VARIABLE],
        "PREFECT_API_AUTH_STRING": os.environ[VARIABLE],
    }


def words(name: str, where: dict[str, str]) -> str:
    """What is left to do: a proxy that speaks TLS, since passwords travel with every request."""
    ports = {service: where[service].rsplit(":", 1)[1] for service in ("prefect", "mlflow")}
    return (
        f"the servers listen on loopback; let a proxy with a certificate for {name} pass port "
        f"{ports['prefect']} (Prefect) and {ports['mlflow']} (MLflow) on, as docs/operate.md "
        f"shows. MLflow's login is in {paths.mlflow_login().relative_to(paths.root())}; Prefect's "
        f"is your {VARIABLE}"
    )
