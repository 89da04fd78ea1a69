"""The pictures of the console in the documentation, taken of a running system: `make pictures` writes them anew.

Everything in them is real: what was pushed, refused, counted and measured while they were taken.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from api.samples.registry import SampleRegistry, WireFault
from tests.support.browser import Console, console_of
from tests.support.content import push_image
from tests.support.palette import with_palette
from tests.support.processes import wait_until
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.nightly, pytest.mark.e2e, pytest.mark.timeout(1200)]

MOST_BYTES = 80_000
PLACES = {"frankfurt": "eu", "singapore": "ap", "virginia": "us"}
SERVICES = ("api", "web", "billing", "search", "worker")
LAYER_BYTES = 3_000_000
MINUTES = int(os.environ.get("PICTURE_MINUTES", "1"))
"""How long the fleet runs before, so that the charts have something to show."""


def test_pictures_of_the_documentation(browser: Browser, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PICTURES") or tmp_path / "pictures")
    folder.mkdir(exist_ok=True)
    with ExitStack() as ends:
        up = ends.enter_context(
            running_up(tmp_path / "up", "--workers", "2", TRANSSHIP_RETRY_SECONDS="0.2")
        )
        registries = {name: ends.enter_context(SampleRegistry()) for name in PLACES}
        going_on = threading.Event()
        ends.callback(going_on.set)
        pages = dict(prepared(up, registries, going_on))
        console = ends.enter_context(
            console_of(
                browser,
                up.url,
                viewport={"width": 1280, "height": 800},
                color_scheme="light",
                locale="en-GB",
                timezone_id="UTC",
            )
        )
        console.sign_in(up.token)
        for name, (address, seen) in pages.items():
            take(console, folder / f"console-{name}.png", address, seen)


def take(console: Console, file: Path, address: str, seen: str) -> None:
    """Write what a page shows once it shows `seen`."""
    console.page.goto(f"{console.url}#/{address}")
    console.sees(seen)
    console.page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
    picture = with_palette(console.page.screenshot())
    assert len(picture) < MOST_BYTES, f"{file.name} has {len(picture)} bytes"
    file.write_bytes(picture)


def prepared(
    up: Up, registries: dict[str, SampleRegistry], going_on: threading.Event
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Have a fleet with something of everything; return of each picture its page, and a text that it waits for."""
    frankfurt, singapore, virginia = registries.values()
    dice = random.Random(9)
    for name, region in PLACES.items():
        up.ask("PUT", f"/regions/{region}", {"jurisdiction": region})
        up.registry(name, registries[name].url, region=region)
    for way, cost in (("eu:ap", 0.08), ("eu:us", 0.02), ("us:ap", 0.05)):
        up.ask("PUT", f"/links/{way}", {"bandwidth": "200Mbit/s", "cost_per_gib": cost})
    for service in SERVICES:
        for number in range(6):
            push_image(
                frankfurt.storage, f"shop/{service}", f"v1.{number}.0", layer=dice.randbytes(LAYER_BYTES)
            )  # fmt: skip
    push_image(frankfurt.storage, "team/ledger", "v2.0.1", layer=dice.randbytes(LAYER_BYTES))
    push_image(frankfurt.storage, "team/vault", "v1.4.0", layer=dice.randbytes(LAYER_BYTES))
    quota = {"ratelimit-limit": "5000;w=3600", "ratelimit-remaining": "4312;w=3600"}
    damaged = WireFault(flip_at=5)
    frankfurt.fault("team/ledger/blobs/", method="GET", wire=damaged, times=2, headers=quota)
    frankfurt.fault(method="GET", times=1 << 20, headers=quota)
    singapore.fault("team/ledger/manifests/", method="PUT", status=500, times=1)
    singapore.fault("team/vault/manifests/", method="PUT", status=403, times=1 << 20)
    both = [{"registry": "singapore"}, {"registry": "virginia"}]
    up.ask(
        "PUT",
        "/rules/shop",
        {
            "source": "frankfurt",
            "select": [{"repositories": ["shop/**"]}],
            "destinations": both,
            "freshness": "10m",
        },
    )
    up.rule("ledger", "frankfurt", "singapore", select=[{"repositories": ["team/**"]}])
    for minute in range(MINUTES):
        began = time.monotonic()
        for number in range(dice.randint(1, 6)):
            push_image(
                frankfurt.storage, "shop/web", f"v2.{minute}.{number}", layer=dice.randbytes(LAYER_BYTES)
            )  # fmt: skip
        up.ask("POST", "/rules/shop/executions")
        wait_until(lambda began=began: time.monotonic() - began > 60, 90, "another minute")
    execution = up.ask("POST", "/rules/ledger/executions")["id"]
    up.idle(120)
    for number in range(20):  # these are under way while the pictures are taken
        push_image(frankfurt.storage, "models/ranker", f"v{number}", layer=dice.randbytes(100_000))
    held = virginia.fault(
        r"models/ranker/manifests/v(1\d|[6-9])$", method="PUT", times=1 << 20,
        before=lambda _request: going_on.wait(300),
    )  # fmt: skip
    up.rule("models", "frankfurt", "virginia", select=[{"repositories": ["models/**"]}])
    running = up.ask("POST", "/rules/models/executions")["id"]
    wait_until(lambda: held.fired, 60, "copies that are under way")
    failed = up.ask("GET", f"/executions/{execution}/copies?state=failed")["items"][0]
    retried = up.ask("GET", f"/executions/{execution}/copies?state=copied")["items"][0]
    assert failed["class"] == "denied"
    assert retried["attempts"] > 2
    wait_until(lambda: "running" in up.ask("GET", "/overview")["copies"], 30, "copies to run")
    yield "overview", ("", "One thing needs attention")
    yield "running", (f"executions/{running}", "left, at this pace")
    yield "execution", (f"executions/{execution}", "Failures by class")
    yield "copy", (f"executions/{execution}/copies/{retried['id']}", "tried again")
    yield "regions", ("regions", "0.08 a GiB")
    yield "where", ("images/team%2Fledger%3Av2.0.1", "singapore")
    yield "registry", ("registries/frankfurt", "4,312 of 5,000")
