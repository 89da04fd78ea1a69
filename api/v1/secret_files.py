"""Files that a document over the API may name: those inside TRANSSHIP_SECRETS_DIR, and no other."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from api.context import services
from api.schemas.requirement import read_key_here
from service.errors import FieldProblem, InvalidFields

_KEY_FILE = "require.signature.key_file"


def inside(file: str, folder: str) -> bool:
    """Whether a path, as written, lies in the folder."""
    if not folder:
        return False
    path = PurePosixPath(os.path.normpath(os.path.join(folder, file)))  # noqa: PTH118 - no disk
    return PurePosixPath(os.path.normpath(folder)) in path.parents


def read_key(path: str) -> str:
    """Return the public key in a file of TRANSSHIP_SECRETS_DIR; raises InvalidFields.

    A link that leads out of the folder is no file of it.
    """
    folder = services().settings.secrets_dir
    if not inside(path, folder):
        hint = "put the file there" if folder else "the server has none; give the key as `key`"
        raise InvalidFields((FieldProblem(_KEY_FILE, "is outside of TRANSSHIP_SECRETS_DIR", hint),))
    real = Path(os.path.realpath(Path(folder) / path))
    if Path(os.path.realpath(folder)) not in real.parents:
        raise InvalidFields(
            (FieldProblem(_KEY_FILE, "leads out of TRANSSHIP_SECRETS_DIR", "put the file there"),)
        )
    return read_key_here(str(real))
