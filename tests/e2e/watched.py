"""A lab that Prometheus looks at: API, scheduler and worker, the last two with metrics behind a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.samples.registry import SampleRegistry
from tests.faults.lab import PREFIX, Lab
from tests.support.gateway import Client
from tests.support.processes import free_port, wait_until
from tests.support.prometheus import Prometheus

TOKEN = "a-token-of-scrapes"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watched:
    """The lab, its Prometheus, and registries in memory for each test."""

    def __init__(self, lab: Lab, prometheus: Prometheus, places: dict[str, str]) -> None:
        self.lab = lab
        self.prometheus = prometheus
        self.places = places
        self._stack = ExitStack()

    def registries(self, name: str, **keys: object) -> tuple[SampleRegistry, SampleRegistry]:
        """Have registries NAME-east and NAME-west; `keys` are of the latter."""
        made = SampleRegistry(), SampleRegistry()
        for side, registry in zip(("east", "west"), made, strict=True):
            self._stack.enter_context(registry)
            more = keys if side == "west" else {}
            self.lab.ask("PUT", f"/registries/{name}-{side}", {"url": registry.url, **more})
        return made

    def rule(self, name: str, **more: object) -> None:
        """Have a rule from NAME-east to NAME-west."""
        place = {"registry": f"{name}-west", "repository": PREFIX + "{repository}"}
        if "mode" not in more:
            more = {"select": [{"repositories": ["team/**"]}], **more}
        self.lab.rule(name, **{"source": f"{name}-east", "destinations": [place], **more})

    def run(self, name: str) -> str:
        """Run a rule to its end; its state."""
        return str(self.lab.wait(self.lab.run(name), 60)["state"])

    def scrape(self, process: str) -> str:
        """What a process shows."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://{self.places[process]}/metrics"
        answer = httpx.get(url, headers=headers, trust_env=False, timeout=60)
        assert answer.is_success, answer.text
        return answer.text

    def samples(self, process: str) -> Samples:
        """The values that it shows, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.scrape(process))
            for sample in family.samples
        }

    def value(self, process: str, name: str, **labels: str) -> float:
        """One value; 0 where there is none yet."""
        return self.samples(process).get((name, frozenset(labels.items())), 0.0)

    @contextmanager
    def gateway(self, *registries: str) -> Iterator[Client]:
        """Have a gateway for registries' names among the processes meanwhile; the first's are as they are.

        Anybody may pull from it.
        """
        names = [
            {"registry": name, **({"prefix": name} if number else {})}
            for number, name in enumerate(registries)
        ]
        file = self.lab.folder / "gateway.yaml"
        config = {"names": names, "anonymous": ["**"]}
        file.write_text(json.dumps({"version": 1, "gateway": config}))
        place = f"127.0.0.1:{free_port()}"
        port = free_port()
        self.lab.start(
            "gateway",
            TRANSSHIP_METRICS_LISTEN=place,
            TRANSSHIP_GATEWAY_FILE=str(file),
            TRANSSHIP_GATEWAY_LISTEN=f"127.0.0.1:{port}",
        )
        self.places["gateway"] = place
        process = self.lab.processes["gateway"]
        try:
            process.wait_ready(lambda: answers(place))
            self.prometheus.gateways(place)
            query = f'up{{instance="{place}"}} == 1'
            wait_until(
                lambda: self.prometheus.ask("query", query=query)["result"], 20, "its first scrape"
            )
            yield Client(port)
        finally:
            self.prometheus.gateways()
            del self.places["gateway"]
            process.stop()
            del self.lab.processes["gateway"]  # the next one stands elsewhere

    def close(self) -> None:
        """End the registries."""
        self._stack.close()


def answers(place: str) -> bool:
    """Whether a process shows its metrics to whoever bears the token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with suppress(httpx.TransportError):
        return httpx.get(
            f"http://{place}/metrics", headers=headers, trust_env=False, timeout=60
        ).is_success
    return False


@contextmanager
def watching_lab(folder: Path) -> Iterator[Watched]:
    """Start all of it, and wait until Prometheus has seen both."""
    token = folder / "metrics_token"
    token.write_text(TOKEN)
    with Lab(folder) as lab:
        lab.variables |= {
            "TRANSSHIP_METRICS_TOKEN_FILE": str(token),
            "TRANSSHIP_HEALTH_CHECK_SECONDS": "0.3",
            "TRANSSHIP_ABSENCE_SECONDS": "0.2",
            "TRANSSHIP_RULE_LOOK_SECONDS": "0.5",
        }
        places = {name: f"127.0.0.1:{free_port()}" for name in ("scheduler", "worker")}
        lab.start("api")
        for name, place in places.items():
            lab.start(name, TRANSSHIP_METRICS_LISTEN=place)
        with Prometheus(folder, [*places.values()], token) as prometheus:
            made = Watched(lab, prometheus, places)
            wait_until(
                lambda: prometheus.ask("query", query="sum(up) == 2")["result"], 20, "both scraped"
            )
            try:
                yield made
            finally:
                made.close()
