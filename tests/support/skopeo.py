"""A second opinion on a replicated fleet: skopeo's."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

Place = tuple[str, str]  # repository, tag
_FALLBACK = re.compile(r"sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64,128}")


def skopeo_check(
    skopeo: str,
    source_url: str,
    destination_url: str,
    expected: Mapping[Place, Place],
    *,
    sample: int = 5,
    seed: int = 0,
) -> list[str]:
    """Let skopeo read `sample` tags of both sides; the faults that it finds.

    Raw manifests must be equal; a copy of the destination's whole image (all platforms) into a
    directory must succeed, and its files must have the digests that name them.
    """
    faults = []
    hosts = [urlsplit(url).netloc for url in (source_url, destination_url)]
    names = sorted(place for place in expected if not _FALLBACK.fullmatch(place[1]))
    for origin in random.Random(seed).sample(names, min(sample, len(names))):
        repository, tag = expected[origin]
        wanted, found = (
            _skopeo(skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{name}:{t}")
            for host, name, t in ((hosts[0], *origin), (hosts[1], repository, tag))
        )
        if wanted.returncode or found.returncode or wanted.stdout != found.stdout:
            faults.append(f"{repository}:{tag}: skopeo inspect differs: {found.stderr.decode()}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            flags = ["-q", "--all", "--preserve-digests", "--src-tls-verify=false"]
            image = f"docker://{hosts[1]}/{repository}:{tag}"
            copy = _skopeo(skopeo, "copy", *flags, image, f"dir:{folder}")
            if copy.returncode:
                faults.append(f"{repository}:{tag}: skopeo copy: {copy.stderr.decode()}")
            for file in Path(folder).iterdir():
                if re.fullmatch("[0-9a-f]{64}", file.name):
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    if digest != file.name:
                        faults.append(f"{repository}:{tag}: skopeo got {file.name} wrong")
    return faults


def _skopeo(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=120, check=False)
