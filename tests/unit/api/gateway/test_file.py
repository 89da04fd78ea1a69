"""The file of a gateway: read, or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.config_file import load_text
from api.schemas.gateway import read_gateway
from service.errors import InvalidConfiguration

GOOD = """
version: 1
gateway:
  url: https://images.example.com
  names:
    - {registry: east}
    - {prefix: hub, registry: west, repository: library}
  anonymous: ["public/**"]
  prefer: [west]
  redirects: false
  stream: [west]
"""


def test_effect_gateway_keys(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD)

    config = read_gateway(str(file))

    assert config.place_of("hub/nginx") == ("west", "library/nginx")
    assert config.is_anonymous("public/app")
    assert config.prefer == ("west",)
    assert config.stream == ("west",)
    assert not config.redirects
    assert config.url == "https://images.example.com"
    assert not load_text(GOOD).rules  # the other commands check it, and leave it alone


@pytest.mark.parametrize(
    ("line", "wrong", "told"),
    [
        (6, "{registry: east, prefx: a}", "unknown key"),
        (6, "{prefix: a}", "is missing"),
        (6, "{registry: east, prefix: A}", "upper-case"),
        (4, "url: https://images.example.com/path", "no address"),
        (8, 'anonymous: ["[a"]', "anonymous"),
        (10, "redirects: maybe", "true or false"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, line: int, wrong: str, told: str
) -> None:
    lines = GOOD.split("\n")
    old = lines[line - 1]
    lines[line - 1] = old[: len(old) - len(old.lstrip(" -"))] + wrong
    file = tmp_path / "gateway.yaml"
    file.write_text("\n".join(lines))

    with pytest.raises(InvalidConfiguration) as refused:
        read_gateway(str(file))

    assert f"gateway.yaml:{line}: " in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["version: 1", "gateway: []", "gateway: {names: []}", ""])
def test_a_file_that_serves_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)

    with pytest.raises(InvalidConfiguration):
        read_gateway(str(file))
    with pytest.raises(InvalidConfiguration):
        read_gateway(str(tmp_path / "none.yaml"))
