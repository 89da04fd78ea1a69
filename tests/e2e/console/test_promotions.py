"""The pages of pipelines and promotions: somebody approves, rejects, rolls back, and reads what has happened."""

from __future__ import annotations

import pytest

from api.samples.registry import SampleRegistry
from tests.support.browser import Console
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.up import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_a_promotion_is_approved_rolled_back_and_rejected(
    console: Console, up: Up, east: SampleRegistry, west: SampleRegistry
) -> None:
    for name, url in (("works", east.url), ("shop-front", west.url)):
        up.registry(name, url)
    stages = [
        {"name": "development", "registry": "works", "repository": "pressed/*"},
        {
            "name": "production",
            "registry": "shop-front",
            "repository": "live/{name}",
            "gates": [{"approval": {"own": True}}],
        },
    ]
    up.ask("PUT", "/pipelines/pressed", {"stages": stages})
    digests = []

    def ask(mark: str) -> None:
        digests.append(push_image(east.storage, "pressed/app", "v1", mark=mark))
        wish = {"pipeline": "pressed", "ref": "pressed/app:v1", "to": "production"}
        up.ask("POST", "/promotions", wish)

    def live() -> str | None:
        return (west.storage.tags("live/app") or {}).get("v1")

    def open_and_press(button: str) -> None:
        console.go("Pipelines", "pressed")
        console.page.get_by_role("link", name="shop-front/live/app:v1").first.click()
        console.title("shop-front/live/app:v1")
        console.page.get_by_role("button", name=button).click()

    for mark in ("one", "two"):
        ask(mark)
        open_and_press("Approve this digest")
        wait_until(lambda: live() == digests[-1], 30, "the image to be in production")
        console.title("placed")
    console.sees("gate.passed")
    console.sees("1 approval by operators")

    console.go("this execution")
    console.title("pipeline-pressed-production")
    console.page.get_by_role("heading", level=1).get_by_role("link").click()
    console.title("Promotions")

    open_and_press("Roll back")
    console.page.get_by_role("button", name="Approve this digest").click()
    wait_until(lambda: live() == digests[0], 30, "the earlier digest to be back")
    console.title("placed")
    console.sees("taking back")

    ask("three")
    console.go("Promotions")
    console.page.get_by_role("link", name="shop-front/live/app:v1").first.click()
    console.page.get_by_role("button", name="Reject").click()
    console.title("rejected")
    console.sees("has not said why")
    assert live() == digests[0]
