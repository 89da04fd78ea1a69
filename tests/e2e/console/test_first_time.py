"""docs/how-to/console.md: a first-time user goes from `transship up` to a running rule, and to why an image failed, unread."""

from __future__ import annotations

import re

import pytest

from api.samples.registry import SampleRegistry
from tests.support.browser import Console
from tests.support.content import push_image
from tests.support.up import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_from_nothing_to_a_rule_that_runs_and_to_why_an_image_failed(
    console: Console, up: Up, east: SampleRegistry, west: SampleRegistry
) -> None:
    for number in range(3):
        push_image(east.storage, "team/app", f"v{number}")
    push_image(east.storage, "team/refused", "v1")
    page = console.page
    quota = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "98;w=21600"}
    east.fault(method="GET", times=1 << 20, headers=quota)
    console.title("There is no rule yet")

    for name, url in (("east", east.url), ("west", west.url)):
        console.go("Registries", "Add a registry")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Address").fill(url)
        page.get_by_role("button", name="Save").click()
        console.title(name)
        page.get_by_role("button", name="Test connection").click()
        console.sees("it speaks the distribution API")

    console.go("Rules", "New rule")
    page.get_by_label("Name").fill("fleet")
    page.get_by_label("From").select_option("east")
    page.get_by_label("To", exact=True).select_option("west")
    page.get_by_role("button", name="Preview").click()
    console.sees("It would copy")
    assert page.locator("dt:text-is('tags') + dd").inner_text() == "4"
    page.get_by_role("button", name="Save").click()
    console.title("fleet")

    refused = west.fault("team/refused/manifests/", method="PUT", status=403, times=1 << 20)
    page.get_by_role("button", name="Run").click()
    console.sees("partial")
    assert refused.fired
    console.sees("Failures by class")
    row = page.get_by_role("row").filter(has_text="denied").first
    row.wait_for()
    assert "team/refused" in page.get_by_role("table", name="Copies").inner_text()

    console.go("east/team/refused:v1")
    console.title("west/team/refused:v1")
    console.sees("the credentials are known, but may not do this")
    assert "manifests/v1: 403" in page.get_by_role("region", name="Why").inner_text()
    assert page.get_by_role("listitem").all_inner_texts()[-2:] == ["east", "west"]
    assert page.get_by_role("button", name="Retry").is_visible()

    console.go("Overview")
    console.title("needs attention")
    console.sees("its last execution did not succeed")
    page.get_by_role("link", name="rule fleet").click()
    console.title("fleet")
    page.get_by_role("table", name="Executions of fleet").get_by_role(
        "link", name="Open"
    ).first.click()
    west.faults.clear()
    page.get_by_role("button", name="Retry what failed").click()
    console.sees("succeeded")
    assert (west.storage.tags("team/refused") or {}).keys() == {"v1"}
    console.go("Overview")
    console.title("Everything is where it should be")
    page.get_by_role("img", name="Copies that landed, minute by minute: ").filter(
        has=page.locator("rect")
    ).wait_for()
    lags = page.get_by_role("table", name="From a change to its copy, by rule").get_by_role("row")
    fleet = lags.filter(has=page.get_by_role("link", name="fleet", exact=True))
    all_four = re.compile(r"minute by minute: at most [\d.]+ .+, 4 copies$")
    fleet.get_by_role("img", name=all_four).wait_for()  # the page is shown anew by itself

    console.go("Registries", "east")
    console.title("east")
    console.sees("98 of 100 requests in 6 h 0 min, as of")
    east.faults.clear()
