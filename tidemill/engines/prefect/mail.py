"""E-mail, as a notification block of Prefect's.

It is on its page Blocks, beside Slack's and the webhook's.
"""

import smtplib
import ssl
from email.message import EmailMessage
from typing import Any, Literal

from prefect.blocks.abstract import NotificationBlock
from pydantic import Field, SecretStr

from tidemill.runtime.escape import line

TIMEOUT_S = 30


class Mail(NotificationBlock):
    """E-mail through an SMTP server; name it in conf/config.yaml as mail/NAME."""

    _block_type_name = "Mail (SMTP)"
    _block_type_slug = "mail"

    host: str = Field(default=..., description="the SMTP server")
    port: int = Field(default=587, ge=1, le=65535, description="587 with starttls, 465 with ssl")
    security: Literal["starttls", "ssl", "none"] = Field(
        default="starttls", description="none only for a server on this machine"
    )
    user: str = Field(default="", description="empty: the server asks for no login")
    password: SecretStr = Field(default=SecretStr(""), description="kept by Prefect, encrypted")
    sender: str = Field(default=..., description="the From address")
    to: list[str] = Field(default=..., min_length=1, description="who is told")

    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        """Send; raises OSError or smtplib.SMTPException where it does not arrive at the server."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = (
            self.sender,
            ", ".join(self.to),
            line(subject or "Tidemill"),
        )
        message.set_content(body)
        with self._server() as server:
            if self.user:
                server.login(self.user, self.password.get_secret_value())
            server.send_message(message)

    def _server(self) -> Any:
        trusted = ssl.create_default_context()
        if self.security == "ssl":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_S, context=trusted)
        server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
        if self.security == "starttls":
            try:
                server.starttls(context=trusted)
            except Exception:
                server.close()
                raise
        return server
