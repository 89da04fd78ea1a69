"""skopeo as a client of a fake: it logs in, pulls and pushes before our own client does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SKOPEO = shutil.which("skopeo")
needs_skopeo = pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed")


def copy_by_skopeo(
    host: str, user: str, password: str, source: str, target: str, folder: Path
) -> None:
    """Log in and copy an image from one name to another at the same registry, or into `dir:FOLDER`.

    Fails with what skopeo says.
    """
    assert SKOPEO is not None
    place = target if target.startswith("dir:") else f"docker://{host}/{target}"
    auth = ("--authfile", str(folder / "auth.json"))
    login = ("login", *auth, "--tls-verify=false", "-u", user, "-p", password, host)
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
    copy = ("copy", "-q", *auth, *tls, f"docker://{host}/{source}", place)
    for words in (login, copy):
        done = subprocess.run(
            [SKOPEO, *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
