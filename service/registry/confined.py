"""Files that a registry may name: inside of TRANSSHIP_SECRETS_DIR, also behind every symbolic link.

The API takes names from people who may not read the server's files. Links inside of the folder are
fine as long as they lead to something inside of it, as Kubernetes mounts its secrets.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from service.errors import InvalidConfiguration
from service.model.endpoint import CredentialSpec, RegistryEndpoint


def is_inside(file: str, folder: str) -> bool:
    """Whether a path, relative ones to the folder, names a file inside of it, links followed."""
    if not folder or "\0" in file:
        return False
    said = Path(os.path.normpath(folder)) in Path(_joined(file, folder)).parents
    led = Path(os.path.realpath(folder)) in Path(os.path.realpath(_joined(file, folder))).parents
    return said and led


def _joined(file: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, file))  # noqa: PTH118 - text, not yet the disk


def confined(file: str, folder: str, field: str) -> str:
    """Return the file's path; raises InvalidConfiguration when it is not inside of the folder.

    Without a folder (a command on its user's own machine) every path is the user's own.
    """
    if not folder:
        return file
    if not is_inside(file, folder):
        raise InvalidConfiguration(
            f"{field} is outside of TRANSSHIP_SECRETS_DIR", field=field, hint="put the file there"
        )
    return _joined(file, folder)


def confine_layout(endpoint: RegistryEndpoint, folder: str) -> None:
    """Raise InvalidConfiguration for a layout that is not inside of TRANSSHIP_LAYOUTS_DIR, links followed."""
    if endpoint.layout is None or is_inside(endpoint.layout, folder):
        return
    why = "is outside of TRANSSHIP_LAYOUTS_DIR" if folder else "is a directory of this machine"
    hint = (
        "move it there" if folder else "set TRANSSHIP_LAYOUTS_DIR where the API and its workers run"
    )
    raise InvalidConfiguration(
        f"registry {endpoint.name}: {endpoint.url} {why}: it may not be used",
        field="url",
        hint=hint,
    )


def confine_tls(endpoint: RegistryEndpoint, folder: str) -> RegistryEndpoint:
    """Return the endpoint with the paths of its TLS files confined; raises InvalidConfiguration."""

    def inside(name: str, file: str | None) -> str | None:
        return None if file is None else confined(file, folder, f"tls.{name}")

    tls = replace(
        endpoint.tls,
        ca_file=inside("ca_file", endpoint.tls.ca_file),
        client_cert_file=inside("client_cert_file", endpoint.tls.client_cert_file),
        client_key_file=inside("client_key_file", endpoint.tls.client_key_file),
    )
    return replace(endpoint, tls=tls)


def confine_credentials(spec: CredentialSpec, folder: str) -> CredentialSpec:
    """Return the spec with the path of its file confined; raises InvalidConfiguration."""
    if spec.password_file is None:
        return spec
    file = confined(spec.password_file, folder, "credentials.password_file")
    return replace(spec, password_file=file)
