"""Commands that ask a server, called in this process against the API as a process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from api.cli.main import main
from tests.support.api_process import ApiProcess


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Said]


def runner(
    server: ApiProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return what runs a command as a user of the server."""
    monkeypatch.setenv("TRANSSHIP_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("TRANSSHIP_TOKEN", server.token)

    def call(*words: str) -> Said:
        code: Any = 0
        capsys.readouterr()  # what was printed before is not the command's
        try:
            main(list(words))
        except SystemExit as error:
            code = error.code or 0
        printed = capsys.readouterr()
        return Said(int(code), printed.out, printed.err)

    return call
