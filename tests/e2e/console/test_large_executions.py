"""A large execution costs the browser no more than a small one: counted in requests and rows (issue 9, point 1)."""

from __future__ import annotations

import pytest

from api.samples.registry import SampleRegistry
from tests.support.browser import Console
from tests.support.content import push_image
from tests.support.up import Up

pytestmark = [pytest.mark.e2e]

ROWS = 50


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(120, marks=pytest.mark.timeout(120)),
        pytest.param(100_000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
    ],
)
def test_page_of_an_execution_asks_for_one_page_of_copies(
    console: Console, up: Up, tags: int
) -> None:
    with SampleRegistry() as source, SampleRegistry() as there:
        source.log_kept = there.log_kept = False
        push_image(source.storage, "large/app", "v0")
        (manifest,) = [source.storage.manifest("large/app", "v0")]
        assert manifest is not None
        for number in range(tags):
            source.storage.put_manifest("large/app", manifest, f"v{number}")
        refused = there.fault(r"/manifests/v\d*7$", method="PUT", status=403, times=1 << 30)
        up.registry("from-large", source.url)
        up.registry("to-large", there.url)
        up.rule("large", "from-large", "to-large")
        execution = up.ask("POST", "/rules/large/executions")["id"]
        up.idle(60 + tags / 20)
        page = console.page
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url.partition("/api/v1/")[2]))

        def shown(then: str) -> list[str]:
            """The rows of copies; the page has no more of anything."""
            table = page.get_by_role("table", name="Copies").locator("tbody tr")
            table.filter(has_text=then).first.wait_for()
            assert page.locator("#view tbody tr").count() <= ROWS + 5  # with ways and classes
            return table.all_inner_texts()

        page.goto(f"{console.url}#/executions/{execution}")
        failed = shown("denied")
        assert refused.fired == tags // 10
        assert len(failed) == min(ROWS, tags // 10)
        page.locator("[data-key=copies]").select_option("copied")
        first = shown("copied")
        page.get_by_role("button", name="Next page").click()
        page.get_by_role("button", name="First page").wait_for()
        second = shown("copied")
        assert (len(first), len(second)) == (ROWS, ROWS)
        assert not set(first) & set(second)
        of = f"executions/{execution}"
        pages = [one for one in asked if one.startswith(f"{of}/copies?limit={ROWS}&")]
        reports = [one for one in asked if one.startswith("reports?receipt=false&")]
        showings = asked.count(of)
        assert 3 <= len(pages) <= showings
        assert len(reports) <= showings
        about = [one for one in asked if execution in one]
        assert len(about) == showings + len(pages) + len(reports)
        print(f"{tags} tags: {showings} showings, {len(about)} requests of the API")
        up.ask("DELETE", "/rules/large")
