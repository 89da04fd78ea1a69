from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidConfiguration
from service.model.endpoint import Credential, CredentialSpec
from service.registry.credentials import resolve
from service.registry.docker_config import from_docker_config


def none() -> None:
    return None


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def config(tmp_path: Path, body: Any) -> dict[str, str]:
    (tmp_path / "config.json").write_text(body if isinstance(body, str) else json.dumps(body))
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_nothing_named_is_anonymous() -> None:
    assert resolve(CredentialSpec(), "r.example", none).anonymous


def test_a_password_comes_from_a_variable() -> None:
    spec = CredentialSpec("u", password_env="X")
    assert resolve(spec, "r.example", none, environment={"X": "p:@/%# \u00fc"}) == Credential(
        "u", "p:@/%# \u00fc"
    )
    for environment in ({}, {"X": ""}):
        with pytest.raises(InvalidConfiguration, match="variable X"):
            resolve(spec, "r.example", none, environment=environment)


def test_a_password_comes_from_a_file_less_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "p"
    spec = CredentialSpec("u", password_file=str(path))
    for content, expected in (("p\n", "p"), ("p\r\n", "p"), ("p ", "p ")):
        path.write_bytes(content.encode())
        assert resolve(spec, "r.example", none).password == expected
    for bad in (b"", b"\n", b"\xff", b"x" * 70_000, b"topsecret\nX: y"):
        path.write_bytes(bad)
        with pytest.raises(InvalidConfiguration) as caught:
            resolve(spec, "r.example", none)
        assert "topsecret" not in caught.value.message
    path.unlink()
    with pytest.raises(InvalidConfiguration):
        resolve(spec, "r.example", none)


def test_a_stored_secret_is_looked_up_only_where_it_is_named() -> None:
    spec = CredentialSpec("u", stored=True)
    assert resolve(spec, "r.example", lambda: "p") == Credential("u", "p")
    with pytest.raises(InvalidConfiguration, match="no secret is stored"):
        resolve(spec, "r.example", none)
    resolve(CredentialSpec(), "r.example", lambda: pytest.fail("looked up"))


def test_a_username_alone_is_a_mistake() -> None:
    with pytest.raises(InvalidConfiguration):
        resolve(CredentialSpec("u"), "r.example", none)


def test_an_identity_token_is_told_by_its_user() -> None:
    spec = CredentialSpec("<token>", stored=True)
    assert resolve(spec, "r.example", lambda: "t") == Credential(identity_token="t")


@pytest.mark.parametrize(
    ("key", "host", "entry", "expected"),
    [
        ("r.example", "r.example", auth("u:p:q"), Credential("u", "p:q")),
        ("r.example:5000", "r.example:5000", auth("u:p"), Credential("u", "p")),
        ("https://r.example/v1/", "r.example", auth("u:p"), Credential("u", "p")),
        ("https://index.docker.io/v1/", "docker.io", auth("u:p"), Credential("u", "p")),
        ("docker.io", "registry-1.docker.io", auth("u:p"), Credential("u", "p")),
        ("r.example", "r.example", {"username": "u", "password": "p"}, Credential("u", "p")),
        ("r.example", "r.example", {"identitytoken": "t"}, Credential(identity_token="t")),
        (
            "r.example",
            "r.example",
            {**auth("u:"), "identitytoken": "t"},
            Credential("u", "", "t"),
        ),
        ("r.example", "r.example", auth("<token>:t"), Credential(identity_token="t")),
        ("r.example", "r.example:5000", auth("u:p"), Credential()),
        ("r.example", "xr.example", auth("u:p"), Credential()),
        ("r.example", "r.example", {}, Credential()),
    ],
)
def test_dockers_file_is_read(
    tmp_path: Path, key: str, host: str, entry: dict[str, str], expected: Credential
) -> None:
    environment = config(tmp_path, {"auths": {key: entry}})
    assert (
        resolve(CredentialSpec(docker_config=True), host, none, environment=environment) == expected
    )


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "[" * 100_000,
        {"auths": {"r.example": {"auth": "***"}}},
        {"auths": {"r.example": auth("nocolon")}},
        {"auths": {"r.example": {"username": 5, "password": "p"}}},
        {"credHelpers": {"r.example": "evil"}},
        {"credHelpers": {"r.example": "../../bin/sh"}},
        {"credsStore": "desktop", "auths": {"r.example": {}}},
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, body: Any) -> None:
    with pytest.raises(InvalidConfiguration):
        from_docker_config("r.example", config(tmp_path, body))


def test_a_key_of_a_namespace_is_not_taken_for_its_whole_host(tmp_path: Path) -> None:
    environment = config(tmp_path, {"auths": {"r.example/team-a": auth("a:p")}})
    assert from_docker_config("r.example", environment).anonymous
    both = {"r.example/team-a": auth("a:p"), "https://r.example/v2/": auth("u:p")}
    environment = config(tmp_path, {"auths": both})
    assert from_docker_config("r.example", environment).username == "u"


def test_a_helper_for_another_host_does_not_matter(tmp_path: Path) -> None:
    environment = config(tmp_path, {"credHelpers": {"other.example": "ecr-login"}})
    assert from_docker_config("r.example", environment) == Credential()


def test_a_helper_that_is_allowed_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-sample"
    helper.write_text(
        "#!/bin/sh\nread host\n"
        '[ "$host" = r.example ] || { echo credentials not found in native keychain; exit 1; }\n'
        'echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"u\\",\\"Secret\\":\\"p\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    environment = config(
        tmp_path, {"credHelpers": {"r.example": "sample", "other.example": "sample"}}
    )
    assert from_docker_config("r.example", environment, helpers=["sample"]) == Credential("u", "p")
    assert from_docker_config("other.example", environment, helpers=["sample"]).anonymous


def test_the_places_are_looked_at_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"r.example": auth("h:p")}}))
    assert from_docker_config("r.example", {}, home=home).username == "h"
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"r.example": auth("f:p")}}))
    environment = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    assert from_docker_config("r.example", environment, home=home).username == "f"
    environment["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"r.example": auth("i:p")}})
    assert from_docker_config("r.example", environment, home=home).username == "i"
    assert from_docker_config("r.example", {}, home=tmp_path / "nobody").anonymous
