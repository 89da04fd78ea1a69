"""Images put into a registry and pulled again by many clients at once, for bench/gateway.py."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import RealRegistry

MIB = 1 << 20
CLIENT = Path(__file__).with_name("pull_client.py")
IMAGE = [MIB, 3 * MIB, 6 * MIB]
"""The layers of one image: 10 MiB."""


def put_blob(registry: RealRegistry, repository: str, pieces: list[bytes]) -> dict[str, object]:
    """Push a blob of some pieces; returns its descriptor without a media type."""
    import httpx

    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    digest, size = f"sha256:{hasher.hexdigest()}", sum(map(len, pieces))
    with httpx.Client(base_url=registry.url, trust_env=False, timeout=300) as client:
        place = client.post(f"/v2/{repository}/blobs/uploads/").headers["location"]
        mark = "&" if "?" in place else "?"
        client.put(
            f"{place}{mark}digest={digest}",
            content=iter(pieces),
            headers={"Content-Length": str(size)},
        ).raise_for_status()
    return {"digest": digest, "size": size}


def put_image(registry: RealRegistry, repository: str, sizes: list[int]) -> None:
    """Push an image of random layers under the tag v1."""
    import httpx

    config = put_blob(registry, repository, [json.dumps({"of": repository}).encode()])
    layers = [
        put_blob(
            registry, repository, [os.urandom(min(MIB, size)) for _ in range(max(1, size // MIB))]
        )
        for size in sizes
    ]
    kind = "application/vnd.oci.image"
    document = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **config},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", **one} for one in layers],
    }
    httpx.put(
        f"{registry.url}/v2/{repository}/manifests/v1",
        content=json.dumps(document).encode(),
        headers={"Content-Type": f"{kind}.manifest.v1+json"},
        trust_env=False,
    ).raise_for_status()


@dataclass(frozen=True, slots=True)
class Pulled:
    """What some clients' pulls came to; `cpu`: seconds that the clients themselves used."""

    seconds: float
    bytes: int
    cpu: float


def pulled(port: int, repositories: list[str], processes: int = 2) -> Pulled:
    """Pull by some processes at once. Raises RuntimeError when a pull fails."""
    running = [
        subprocess.Popen(
            [sys.executable, "-I", str(CLIENT), str(port), *repositories[n::processes]],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(min(processes, len(repositories)))
    ]
    said = [json.loads(one.communicate()[0]) for one in running]
    seconds = max(one["ended"] for one in said) - min(one["began"] for one in said)
    failed = [reason for one in said for reason in one["failed"]]
    if failed:
        raise RuntimeError(f"{len(failed)} pulls failed, such as: {failed[0]}")
    return Pulled(seconds, sum(one["bytes"] for one in said), sum(one["cpu"] for one in said))
