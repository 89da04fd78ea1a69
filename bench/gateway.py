"""What a gateway costs against pulling from docker-registry directly: `python -m bench.gateway [--quick]`.

Two loads, each pulled directly and through a gateway by the same clients, in turn, on the same cores: 200 pulls at
once of 20 images of 10 MiB, and one blob of 1 GiB (its first pull through the gateway, and the next ones). The
clients read into one buffer and hold every byte to its digest, as engines do. Prints one JSON object; a
ratio above 1 says that the gateway was quicker. Issue 10 asks for 0.8.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.measure import cpu_seconds
from service.model.endpoint import RegistryEndpoint
from service.store.database import Database
from service.store.keyring import write_new_key
from service.store.registries import RegistryStore
from service.store.schema import create_or_upgrade
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import RealRegistry

MIB = 1 << 20
CLIENT = Path(__file__).with_name("pull_client.py")


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


def pulled(port: int, repositories: list[str], processes: int = 2) -> tuple[float, int]:
    """Pull by some processes at once; seconds and bytes. Raises RuntimeError when a pull fails."""
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
    return seconds, sum(one["bytes"] for one in said)


def measure(*, quick: bool, rounds: int, cache: int) -> dict[str, object]:
    """Set everything up and pull; returns what is printed."""
    images, at_once, big = (5, 20, 64 * MIB) if quick else (20, 200, 1024 * MIB)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, RealRegistry() as registry:
        folder = Path(name)
        small = [f"bench/app{n}" for n in range(images)]
        for repository in small:
            put_image(registry, repository, [MIB, 3 * MIB, 6 * MIB])
        put_image(registry, "bench/big", [big])
        url = f"sqlite:///{folder / 'transship.db'}"
        database = Database(url)
        create_or_upgrade(database)
        write_new_key(folder / "secret.keys")
        RegistryStore(database, None).put(
            RegistryEndpoint("direct", registry.url),
            document={"name": "direct", "url": registry.url},
        )
        database.close()
        config = {"names": [{"registry": "direct"}], "anonymous": ["**"]}
        environment = {
            "TRANSSHIP_DATABASE_URL": url,
            "TRANSSHIP_SECRET_KEY_FILE": str(folder / "secret.keys"),
            "TRANSSHIP_GATEWAY_CACHE_BYTES": str(cache),
        }
        loads = {"at_once": [small[n % images] for n in range(at_once)], "one_blob": ["bench/big"]}
        found: dict[str, object] = {"cores": os.cpu_count(), "at_once": at_once, "blob_bytes": big}
        with running_gateway(folder, config, **environment) as gateway:
            for load, repositories in loads.items():
                found[load] = _compared(registry, gateway, repositories, rounds)
            peak = Path(f"/proc/{gateway.process.pid}/status").read_text()
            found["peak_rss_mib"] = int(peak.partition("VmHWM:")[2].split()[0]) // 1024
        return found


def _compared(
    registry: RealRegistry, gateway: Gateway, repositories: list[str], rounds: int
) -> object:
    walls: dict[str, list[float]] = {"direct": [], "gateway": []}
    cpu: dict[str, list[float]] = {"direct": [], "gateway": []}
    first, total = 0.0, 0
    for turn in range(rounds):
        for way, port, pids in (
            ("direct", registry.port, [registry.pid]),
            ("gateway", gateway.port, [registry.pid, gateway.process.pid]),
        ):
            before = sum(map(cpu_seconds, pids))
            seconds, total = pulled(port, repositories)
            cpu[way].append(round(sum(map(cpu_seconds, pids)) - before, 2))
            walls[way].append(seconds)
            if way == "gateway" and turn == 0:
                first = seconds
    return {
        "bytes": total,
        "direct_seconds": round(statistics.median(walls["direct"]), 3),
        "gateway_seconds": round(statistics.median(walls["gateway"]), 3),
        "gateway_first_seconds": round(first, 3),
        "throughput_ratio": round(
            statistics.median(
                d / g for d, g in zip(walls["direct"], walls["gateway"], strict=True)
            ),
            2,
        ),
        "first_ratio": round(walls["direct"][0] / first, 2),
        "server_cpu_seconds": {way: statistics.median(found) for way, found in cpu.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=int, default=4 << 30, help="bytes; 0: all is streamed")
    words = parser.parse_args()
    print(json.dumps(measure(quick=words.quick, rounds=words.rounds, cache=words.cache), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
