"""Which version answers is followed for each application by itself.

Whatever becomes of the others.
"""

import subprocess
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tasks.serve.version_follower import VersionFollower
from tidemill.engines import config
from tidemill.runtime.errors import Refused


def followed(
    aliases: dict[str, dict[str, str]], bring: Callable[[str, str], object]
) -> VersionFollower:
    """A follower of a registry that says this."""
    found = VersionFollower((), 1, bring=bring)  # type: ignore[arg-type]
    found.aliases = lambda: aliases  # type: ignore[method-assign]
    return found


def slot(name: str, number: str) -> SimpleNamespace:
    return SimpleNamespace(version=number, digest="d" * 64, loaded="now")


class Panic(BaseException):
    """What a library in Rust raises where it cannot go on."""


@pytest.mark.parametrize(
    "error", [Refused("conf/recipe/stocks.yaml: nonsense"), SyntaxError("nonsense")]
)
def test_an_application_whose_configuration_is_broken_keeps_no_other_from_being_followed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def recipe(name: str, known: Callable = config.recipe) -> object:
        if name == "stocks":
            raise error
        return known(name)

    monkeypatch.setattr(config, "recipe", recipe)
    aliases = {"stocks": {"champion": "1"}, "languages": {"champion": "1"}}
    follower = followed(aliases, slot)
    for number in "12":
        aliases["languages"]["champion"] = number
        follower.look()
        told = follower.health()
        assert told["applications"]["languages"]["version"] == number and follower.looked
        assert (
            told["status"] == "degraded" and "nonsense" in told["applications"]["stocks"]["refused"]
        )
    monkeypatch.undo()
    follower.look()
    assert follower.health()["status"] == "ok" and set(follower.served) == {"languages", "stocks"}


@pytest.mark.parametrize(
    "error", [subprocess.TimeoutExpired("bring", 300), IndexError("of nothing"), Panic("in Rust")]
)
def test_a_version_whose_loading_ends_in_any_error_is_refused_and_not_tried_at_once_again(
    error: BaseException,
) -> None:
    tried = []

    def bring(name: str, number: str) -> object:
        tried.append(number)
        if number == "2":
            raise error
        return slot(name, number)

    aliases = {"languages": {"champion": "1"}}
    follower = followed(aliases, bring)
    for number in "1222":
        aliases["languages"]["champion"] = number
        follower.look()
    told = follower.health()["applications"]["languages"]
    assert (
        tried == ["1", "2"] and told["version"] == "1" and type(error).__name__ in told["refused"]
    )
