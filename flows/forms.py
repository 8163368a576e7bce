"""What Prefect's forms offer as drop-downs: the names in conf/."""

from enum import StrEnum

from tidemill.engines import config

_applications = {name: name for name in config.files("recipe")}
Application = StrEnum("Application", _applications)  # type: ignore[misc]
Source = StrEnum("Source", {name: name for name in config.files("source")})  # type: ignore[misc]
