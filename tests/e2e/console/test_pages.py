"""Every page: nothing that axe finds serious, no text of a registry that does anything, nothing beyond a phone's edge."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from api.samples.registry import SampleRegistry
from tests.support.browser import Console, console_of
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.signing import Signer
from tests.support.up import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HOSTILE = '<img src=x onerror="document.title=1">"><script>document.title=1</script>'
GRAVE = ("serious", "critical")
WIDTHS = {
    "laptop": (1280, 800, "light"),
    "tablet": (820, 1100, "dark"),
    "phone": (390, 844, "light"),
}


@pytest.fixture(scope="module")
def addresses(up: Up, east: SampleRegistry, west: SampleRegistry) -> Iterator[dict[str, str]]:
    """What there is to be looked at, by name of its page: one of everything, and a failure that says something hostile."""
    for name, url in (("from", east.url), ("there", west.url)):
        up.registry(name, url)
    for number in range(25):
        push_image(east.storage, "many/app", f"v{number}", mark="same")
    push_image(east.storage, "many/bad", "v1")
    told = {"errors": [{"code": "DENIED", "message": f"{HOSTILE} sha256:{'a' * 64}"}]}
    west.fault(
        "many/bad/manifests/", method="PUT", status=403, times=1 << 20, body=json.dumps(told).encode(),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    up.rule(
        "looked-at",
        "from",
        "there",
        select=[{"repositories": ["many/**"]}],
        freshness="1h",
        delete={"enabled": True, "cap": "1%", "grace": "0s"},
    )
    execution = up.ask("POST", "/rules/looked-at/executions")["id"]
    up.ask("POST", "/verifications", {"rule": "looked-at"})
    up.ask("PUT", "/regions/eu", {"jurisdiction": "eu"})
    up.ask("PUT", "/regions/us", {"jurisdiction": "us"})
    up.ask("PUT", "/links/eu:us", {"bandwidth": "200Mbit/s", "cost_per_gib": 0.02})
    up.ask("PUT", "/migrations/move", {"source": "from", "destination": "there"})
    stages = [
        {"name": "dev", "registry": "from", "repository": "many/*"},
        {
            "name": "prod",
            "registry": "there",
            "repository": "live/{name}",
            "gates": [{"approval": {"own": True}}, {"signature": {"key": Signer().public}}],
        },
    ]
    up.ask("PUT", "/pipelines/shop", {"stages": stages})
    wish = {"pipeline": "shop", "ref": "many/app:v1", "to": "prod"}
    promotion = up.ask("POST", "/promotions", wish)["id"]
    up.idle(60)
    whole = {"source": "from", "mode": "replicate", "delete": {"enabled": False}}
    up.ask("PUT", "/rules/instance", {**whole, "destinations": [{"registry": "there"}]})
    hook = {"url": "https://receiver.example/x", "events": ["execution.*"]}
    up.ask("PUT", "/webhooks/told", hook)
    up.ask(
        "POST", "/releases", {"name": "december", "rule": "looked-at", "images": ["many/app:v1"]}
    )
    wait_until(lambda: up.ask("GET", "/releases/december")["state"] == "staged", 60)
    failed = up.ask("GET", f"/executions/{execution}/copies?state=failed")["items"][0]["id"]
    yield {
        "overview": "",
        "rules": "rules",
        "rule": "rules/looked-at",
        "new rule": "rules/+new",
        "edit rule": "rules/looked-at/edit",
        "executions": "executions",
        "execution": f"executions/{execution}",
        "copy": f"executions/{execution}/copies/{failed}",
        "image": "images/many%2Fapp%3Av1",
        "registries": "registries",
        "registry": "registries/there",
        "new registry": "registries/+new",
        "regions": "regions",
        "migrations": "migrations",
        "migration": "migrations/move",
        "pipelines": "pipelines",
        "pipeline": "pipelines/shop",
        "promotions": "promotions",
        "promotion": f"promotions/{promotion}",
        "verifications": "verifications",
        "replicas": "replicas",
        "replica": "replicas/instance/there",
        "releases": "releases",
        "release": "releases/december",
        "webhooks": "webhooks",
        "webhook": "webhooks/told",
        "deletions": "deletions",
        "audit": "audit",
        "tokens": "tokens",
    }
    west.faults.clear()
    up.ask("POST", f"/promotions/{promotion}/cancel")
    for made in (
        "pipelines/shop",
        "releases/december",
        "webhooks/told",
        "rules/instance",
        "rules/looked-at",
    ):
        up.ask("DELETE", f"/{made}")


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, browser: Browser, up: Up) -> Iterator[Console]:
    """A tab of each width that is looked at, light or dark."""
    width, height, scheme = WIDTHS[request.param]
    size = {"width": width, "height": height}
    with console_of(browser, up.url, viewport=size, color_scheme=scheme) as made:
        made.sign_in(up.token)
        yield made


def test_regions_of_one_machine_say_whose_workers_do_their_work(
    browser: Browser, up: Up, addresses: dict[str, str]
) -> None:
    assert addresses
    found = {one["name"]: one for one in up.ask("GET", "/regions")["items"]}
    assert found["local"]["workers"]["processes"] > 0
    assert {one["served_by"] for one in found.values()} == {"local"}
    with console_of(browser, up.url) as console:
        console.sign_in(up.token)
        for page, table in (("", "Regions with their workers"), ("regions", "Regions")):
            console.page.goto(f"{console.url}#/{page}")
            row = console.page.get_by_role("table", name=table, exact=True).get_by_role("row")
            row.filter(has_text="eu").filter(has_text="of local").wait_for()


def test_every_page_can_be_read_by_everybody(tab: Console, addresses: dict[str, str]) -> None:
    found = []
    for name, address in addresses.items():
        tab.page.goto(f"{tab.url}#/{address}")
        tab.page.locator("#view h1").wait_for()
        found += [
            (name, one["id"], one["nodes"][0]["html"][:200])
            for one in Axe().run(tab.page).response["violations"]
            if one["impact"] in GRAVE
        ]
        wide = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            found.append((name, "wider than the window", str(wide)))
        assert tab.page.title() != "1", f"{name}: a registry's text was run"
    assert found == []


@pytest.mark.parametrize("where", ["execution", "copy"])
def test_what_a_registry_says_is_text(
    console: Console, addresses: dict[str, str], where: str
) -> None:
    console.page.goto(f"{console.url}#/{addresses[where]}")
    console.sees("document.title=1")

    assert console.page.locator("#view img, #view script").count() == 0
    assert console.page.title() != "1"


def test_one_image_is_copied_again_from_its_page(
    console: Console, addresses: dict[str, str], up: Up
) -> None:
    console.page.goto(f"{console.url}#/{addresses['copy']}")
    console.page.get_by_role("button", name="Copy this image again").click()
    console.sees("copy of single tags")
    console.page.locator("h1 .pill").filter(has_text="failed").wait_for()

    execution = console.page.url.rpartition("/")[2]
    assert execution not in addresses["copy"]
    copies = up.ask("GET", f"/executions/{execution}/copies")["items"]
    assert [one["source"] for one in copies] == ["from/many/bad:v1"]


def test_keyboard_alone_gets_from_sign_in_to_a_run(
    browser: Browser, up: Up, addresses: dict[str, str]
) -> None:
    assert addresses
    with console_of(browser, up.url) as made:
        page = made.page
        page.goto(made.url)
        page.keyboard.type(up.token)  # the field has the focus
        page.keyboard.press("Enter")
        page.get_by_role("navigation").wait_for()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Rules":
                break
        page.keyboard.press("Enter")
        made.title("Rules")
        for _ in range(40):
            page.keyboard.press("Tab")
            if (
                page.evaluate("document.activeElement.getAttribute('aria-label')")
                == "Run looked-at"
            ):
                break
        page.keyboard.press("Enter")
        made.title("looked-at")
        made.sees("partial")


def test_token_that_is_not_valid_is_told(browser: Browser, up: Up) -> None:
    with console_of(browser, up.url) as made:
        made.page.goto(made.url)
        made.page.get_by_label("Token").fill("tsp_nobody")
        made.page.get_by_role("button", name="Sign in").click()
        made.page.get_by_role("alert").filter(has_text="not valid").wait_for()
        assert made.page.evaluate("sessionStorage.length") == 0


def test_release_is_flipped_where_it_is_looked_at(
    console: Console, addresses: dict[str, str], up: Up
) -> None:
    console.page.goto(f"{console.url}#/{addresses['release']}")
    console.page.get_by_role("button", name="Flip all tags").click()
    console.page.get_by_role("button", name="Roll back").wait_for()

    assert up.ask("GET", "/releases/december")["state"] == "flipped"


def test_overview_counts_and_draws_what_is_under_way(
    console: Console, up: Up, east: SampleRegistry, west: SampleRegistry, addresses: dict[str, str]
) -> None:
    assert addresses
    go_on = threading.Event()
    for tag in ("v1", "v2"):
        push_image(east.storage, "under-way/app", tag)
    held = west.fault("under-way/app/manifests/v2", method="PUT", hold=go_on)
    up.rule("under-way", "from", "there", select=[{"repositories": ["under-way/**"]}])
    up.ask("POST", "/rules/under-way/executions")
    try:
        wait_until(lambda: held.fired, 30, "its tag to be put")
        console.page.goto(console.url)
        running = console.page.locator(".running").filter(has_text="under-way")
        running.get_by_role("img", name="1 copied").wait_for()
        assert "1 to do" in (running.get_by_role("img").get_attribute("aria-label") or "")
        under_way = console.page.locator("dt:text-is('copies under way') + dd")
        assert int(under_way.inner_text()) >= 1  # what other tests left may be under way, too
    finally:
        go_on.set()
    up.idle()
    up.ask("DELETE", "/rules/under-way")
