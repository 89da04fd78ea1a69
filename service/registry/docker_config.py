"""Credentials as docker, podman and their like keep them: config.json and auth.json."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from service.errors import InvalidConfiguration
from service.model.endpoint import Credential
from service.model.reference import DOCKER_HUB_ALIASES

MAX_CONFIG_BYTES = 1024 * 1024
HELPER_SECONDS = 20.0
_HUB_KEY = "index.docker.io"
_OURS = "TRANSSHIP_"
"""Variables that are no helper's business: other registries' passwords are among them."""

_HELPER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def from_docker_config(
    host: str,
    environment: Mapping[str, str],
    *,
    home: Path | None = None,
    helpers: Collection[str] = (),
) -> Credential:
    """Return what the files say for a registry's host; anonymous when they say nothing.

    Looked at in this order: DOCKER_AUTH_CONFIG (the JSON itself), REGISTRY_AUTH_FILE,
    $DOCKER_CONFIG/config.json, ~/.docker/config.json, $XDG_RUNTIME_DIR/containers/auth.json.
    `helpers` are the credential helpers the operator allows; another one that a file names for this
    host raises InvalidConfiguration, as to run it is to run a command of the file's choice.
    """
    for name, config in _configs(environment, home):
        credential = _from_config(host, config, name, helpers)
        if credential is not None:
            return credential
    return Credential()


def _configs(
    environment: Mapping[str, str], home: Path | None
) -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    inline = environment.get("DOCKER_AUTH_CONFIG")
    if inline:
        found.append(("DOCKER_AUTH_CONFIG", _parse(inline, "DOCKER_AUTH_CONFIG")))
    paths: list[Path] = []
    if environment.get("REGISTRY_AUTH_FILE"):
        paths.append(Path(environment["REGISTRY_AUTH_FILE"]))
    if environment.get("DOCKER_CONFIG"):
        paths.append(Path(environment["DOCKER_CONFIG"]) / "config.json")
    else:
        paths.append((home or Path.home()) / ".docker" / "config.json")
    if environment.get("XDG_RUNTIME_DIR"):
        paths.append(Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    for path in paths:
        try:
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise InvalidConfiguration(f"{path}: over {MAX_CONFIG_BYTES} bytes")
            text = path.read_text("utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfiguration(f"{path} cannot be read: {error}") from None
        found.append((str(path), _parse(text, str(path))))
    return found


def _parse(text: str, name: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidConfiguration(f"{name} is no JSON") from None
    if not isinstance(value, dict):
        raise InvalidConfiguration(f"{name} is no JSON object")
    return value


def _from_config(
    host: str, config: Mapping[str, Any], name: str, helpers: Collection[str]
) -> Credential | None:
    wanted = _normalise(host)
    named = config.get("credHelpers")
    if isinstance(named, dict):
        for key, suffix in named.items():
            if _normalise(key) == wanted:
                return _from_helper(str(suffix), key, name, helpers)
    auths = config.get("auths")
    if isinstance(auths, dict):
        for key, entry in auths.items():
            if _normalise(key) == wanted and isinstance(entry, dict) and entry:
                return _from_entry(entry, f"{name}: auths[{key!r}]")
    store = config.get("credsStore")
    if store and isinstance(auths, dict) and any(_normalise(key) == wanted for key in auths):
        return _from_helper(str(store), _server_key(wanted), name, helpers)
    return None


def _normalise(key: str) -> str:
    """Bring a key of `auths` to host[:port]: older ones are URLs of an API.

    A key with another path (podman's, of a namespace) is for no host as a whole: "".
    """
    host, _, path = re.sub(r"^https?://", "", key.strip()).lower().partition("/")
    if path.strip("/") not in ("", "v1", "v2"):
        return ""
    return _HUB_KEY if host in DOCKER_HUB_ALIASES else host


def _server_key(host: str) -> str:
    return "https://index.docker.io/v1/" if host == _HUB_KEY else host


def _from_entry(entry: Mapping[str, Any], name: str) -> Credential:
    username, password = entry.get("username"), entry.get("password")
    token = entry.get("identitytoken")
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            text = base64.b64decode(auth, validate=True).decode("utf-8").rstrip("\x00")
        except (binascii.Error, ValueError):
            raise InvalidConfiguration(f"{name}.auth is not base64") from None
        username, colon, password = text.partition(":")
        if not colon:
            raise InvalidConfiguration(f"{name}.auth is not user:password")
    return _credential(username, password, token, name)


def _credential(username: Any, password: Any, token: Any, name: str) -> Credential:
    texts = [item if item is not None else "" for item in (username, password, token)]
    if not all(isinstance(item, str) for item in texts):
        raise InvalidConfiguration(f"{name} holds what is no text")
    username, password, token = texts
    if username == "<token>":  # helpers say so that the secret is an identity token
        username, password, token = "", "", password
    return Credential(username, password, token)


def _from_helper(suffix: str, server: str, name: str, helpers: Collection[str]) -> Credential:
    """Ask docker-credential-<suffix>, if the operator allows it (docker-credential-helpers)."""
    if suffix not in helpers or not _HELPER.fullmatch(suffix):
        raise InvalidConfiguration(
            f"{name} names the credential helper {suffix[:64]!r}, which is not allowed here",
            hint="name it in TRANSSHIP_CREDENTIAL_HELPERS, or give the credentials another way",
        )
    command = f"docker-credential-{suffix}"
    try:
        done = subprocess.run(  # noqa: S603 - allow-listed, no shell
            [command, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
            check=False,
            env={key: value for key, value in os.environ.items() if not key.startswith(_OURS)},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidConfiguration(f"{command} cannot be run: {type(error).__name__}") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return Credential()
        raise InvalidConfiguration(f"{command} failed with status {done.returncode}")
    answer = _parse(done.stdout.decode("utf-8", "replace"), command)
    return _credential(answer.get("Username"), answer.get("Secret"), "", command)
