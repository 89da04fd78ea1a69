"""transship doctor --from: what a worker's answer, or none, comes to."""

from __future__ import annotations

from typing import Any

import pytest

from api.cli.doctor import _there
from service.errors import NetworkError

ASKED = {
    "id": "1",
    "state": "pending",
    "worker": "",
    "findings": [],
    "reason": "",
    "hint": "",
}


class Server:
    """Answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        return self.answers.pop(0)


def there(*answers: dict[str, Any]) -> tuple[dict[str, Any], Server]:
    server = Server(*[{**ASKED, **one} for one in answers])
    return _there(server, "a/b", {"write": False}, "eu"), server  # type: ignore[arg-type]


def test_answer_is_waited_for() -> None:
    finding = {"name": "ping", "result": "yes"}

    found, server = there({}, {"state": "running"}, {"state": "ended", "findings": [finding]})

    assert found["findings"] == [finding]
    assert server.asked == [
        ("POST", "/registries/a%2Fb/examination", {"write": False, "from": "eu"}),
        ("GET", "/registries/a%2Fb/examinations/1", None),
        ("GET", "/registries/a%2Fb/examinations/1", None),
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"state": "failed", "reason": "it is paused", "hint": "resume it"}, "it is paused"),
        (
            {"state": "expired", "worker": "boot-1"},
            "boot-1 of region eu took it and did not answer",
        ),
        (
            {"state": "expired", "reason": "it is as the server says", "hint": "do that"},
            "it is as the server says",
        ),
        ({"state": "expired"}, "no worker of region eu took it in time"),
    ],
)
def test_no_answer_is_told_with_what_to_do(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(NetworkError, match=words) as caught:
        there(answer)

    assert caught.value.hint
