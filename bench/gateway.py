"""What a gateway costs against pulling from docker-registry directly: `python -m bench.gateway [--quick] [--load L]`.

Three loads, each pulled directly and through a gateway by the same clients, in turn, on the same cores: 200 pulls at
once of 20 images of 10 MiB (at_once), one blob of 1 GiB, its first pull through the gateway and the next ones (one_blob),
and the 200 pulls while a migration moves the registry's images to another one (migrating). The
clients read into one buffer and hold every byte to its digest, as engines do. Prints one JSON object; a
ratio above 1 says that the gateway was quicker. Issue 10 asks for 0.8.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.gateway_migrating import measure_migrating
from bench.measure import cpu_seconds
from bench.pulls import IMAGE, MIB, pulled, put_image
from service.model.endpoint import RegistryEndpoint
from service.store.database import Database
from service.store.keyring import write_new_key
from service.store.registries import RegistryStore
from service.store.schema import create_or_upgrade
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import RealRegistry

LOADS = ("at_once", "one_blob", "migrating")


def measure(*, quick: bool, rounds: int, cache: int, wanted: Sequence[str]) -> dict[str, object]:
    """Set everything up and pull; returns what is printed."""
    images, at_once, big = (5, 20, 64 * MIB) if quick else (20, 200, 1024 * MIB)
    small = [f"bench/app{n}" for n in range(images)]
    found: dict[str, object] = {"cores": os.cpu_count(), "at_once": at_once, "blob_bytes": big}
    loads = {"at_once": [small[n % images] for n in range(at_once)], "one_blob": ["bench/big"]}
    alone = {load: loads[load] for load in wanted if load in loads}
    if alone:
        found |= _measure_alone(alone, small, big, rounds, cache)
    if "migrating" in wanted:
        fleet = 40 if quick else 150
        found["migrating"] = measure_migrating(small, loads["at_once"], rounds, cache, fleet)
    return found


def _measure_alone(
    loads: Mapping[str, list[str]], small: list[str], big: int, rounds: int, cache: int
) -> dict[str, object]:
    """Pull with nothing else going on."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, RealRegistry() as registry:
        folder = Path(name)
        for repository in small:
            put_image(registry, repository, IMAGE)
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
    servers: dict[str, list[float]] = {"direct": [], "gateway": []}
    clients: dict[str, list[float]] = {"direct": [], "gateway": []}
    total = 0
    for _ in range(rounds):
        for way, port, pids in (
            ("direct", registry.port, [registry.pid]),
            ("gateway", gateway.port, [registry.pid, gateway.process.pid]),
        ):
            before = sum(map(cpu_seconds, pids))
            found = pulled(port, repositories)
            servers[way].append(round(sum(map(cpu_seconds, pids)) - before, 2))
            clients[way].append(round(found.cpu, 2))
            walls[way].append(found.seconds)
            total = found.bytes
    direct, through = walls["direct"], walls["gateway"]
    used = statistics.median(map(operator.add, servers["gateway"], clients["gateway"]))
    least = used / (os.cpu_count() or 1)
    return {
        "bytes": total,
        "direct_seconds": round(statistics.median(direct), 3),
        "gateway_seconds": round(statistics.median(through), 3),
        "gateway_first_seconds": round(through[0], 3),
        "throughput_ratio": round(
            statistics.median(d / g for d, g in zip(direct, through, strict=True)), 2
        ),
        "first_ratio": round(direct[0] / through[0], 2),
        "ratio_if_no_core_were_idle": round(statistics.median(direct) / least, 2),
        "server_cpu_seconds": {way: statistics.median(cpu) for way, cpu in servers.items()},
        "client_cpu_seconds": {way: statistics.median(cpu) for way, cpu in clients.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=int, default=4 << 30, help="bytes; 0: all is streamed")
    parser.add_argument("--load", choices=LOADS, action="append", help="repeated; without: all")
    words = parser.parse_args()
    wanted = words.load or LOADS
    found = measure(quick=words.quick, rounds=words.rounds, cache=words.cache, wanted=wanted)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
