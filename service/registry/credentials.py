"""From where a credential is kept to the credential itself, at the moment it is needed."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from service.errors import InvalidConfiguration
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.registry.confined import confine_credentials
from service.registry.docker_config import from_docker_config

KEPT_SECONDS = 30.0
"""A credential helper's answer is used for so long: each repository's token asks for it."""

MAX_SECRET_BYTES = 64 * 1024  # a Google service account's JSON has 2 KiB


def readers(
    endpoint: RegistryEndpoint,
    host: str,
    stored: Callable[[int], str | None],
    *,
    folder: str = "",
    helpers: Collection[str] = (),
) -> list[Callable[[], Credential]]:
    """Return what reads each of a registry's credentials, in their order, as `resolve` does.

    `stored` fetches the stored secret of the one at a place; `folder` is the only one that files are read from.
    """

    def reader(place: int, spec: CredentialSpec) -> Callable[[], Credential]:
        def read() -> Credential:
            confined = confine_credentials(spec, folder)
            return resolve(confined, host, lambda: stored(place), helpers=helpers)

        return _Kept(read).read if spec.docker_config and helpers else read

    return [reader(place, spec) for place, spec in enumerate(endpoint.every_credential)]


class _Kept:
    """What may run a command is run by one thread, and its answer used for a while by all."""

    def __init__(self, read: Callable[[], Credential]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._found = Credential()
        self._until = 0.0

    def read(self) -> Credential:
        """Return the credential; raises what reading it does."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._read()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._found


def resolve(
    spec: CredentialSpec,
    host: str,
    secret_lookup: Callable[[], str | None],
    *,
    environment: Mapping[str, str] | None = None,
    helpers: Collection[str] = (),
) -> Credential:
    """Return the credential for a registry's host (host or host:port).

    `secret_lookup` fetches the stored secret, and is called only when the spec says so; `helpers`
    are the docker credential helpers that the operator allows; `environment` is the process's own
    unless given. Raises InvalidConfiguration when what the spec names is missing or unusable; the
    message never holds the secret.
    """
    environment = os.environ if environment is None else environment
    if spec.password_env is not None:
        secret = environment.get(spec.password_env)
        if not secret:
            raise _missing(f"the variable {spec.password_env} is not set", "password_env")
        return _with_password(spec, secret)
    if spec.password_file is not None:
        return _with_password(spec, _read(Path(spec.password_file)))
    if spec.stored or spec.secret is not None:
        secret = secret_lookup()
        if not secret:
            raise _missing(f"no secret is stored for {host}", "secret")
        return _with_password(spec, secret)
    if spec.keyless is not None:
        raise _missing(
            f"{host} is no registry of {spec.keyless}, whose machines it would know", "keyless"
        )
    if spec.docker_config:
        return from_docker_config(host, environment, helpers=helpers)
    if spec.username:
        raise _missing(f"a username for {host} but no password", "username")
    return Credential()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _missing(f"{path} cannot be read: {error.strerror}", "password_file") from None
    if len(data) > MAX_SECRET_BYTES:
        raise _missing(f"{path} has over {MAX_SECRET_BYTES} bytes", "password_file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _missing(f"{path} is not UTF-8", "password_file") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise _missing(f"{path} is empty", "password_file")
    return text


def _with_password(spec: CredentialSpec, secret: str) -> Credential:
    if (
        spec.username == "_json_key"
    ):  # Google's keys are written with line ends between their members
        with contextlib.suppress(ValueError):
            secret = json.dumps(json.loads(secret), separators=(",", ":"))
    if any(ord(character) < 32 or ord(character) == 127 for character in secret):
        raise _missing("the secret holds control characters", "credentials")
    if spec.username == "<token>":
        return Credential(identity_token=secret)
    return Credential(spec.username, secret)


def _missing(message: str, field: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        message,
        field=f"credentials.{field}",
        hint="it is read by the process that copies: give it to the worker, or to `up` and `sync`",
    )
