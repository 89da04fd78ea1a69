"""Each class of failures, caused by real requests, is told on its execution's page, with what mends it and what to press."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from api.samples.auth import BasicAuth
from api.samples.registry import FaultRule, SampleRegistry, WireFault
from api.samples.storage import digest_of
from service.model.failure_classes import CLASSES
from tests.faults.lab import Lab
from tests.support.browser import Console, console_of
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.signing import Signer
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

FOREVER = 1 << 20
LAYER = b"a layer of some length" * 40


@dataclass
class Case:
    """Two registries of its own, so that what one class does to a registry's reputation touches no other."""

    name: str
    source: SampleRegistry
    there: SampleRegistry
    faults: list[FaultRule] = field(default_factory=list)
    execution: str = ""

    def push(self, mark: str = "") -> str:
        return push_image(self.source.storage, "team/app", "v1", layer=LAYER, mark=mark)

    def at_source(self, path: str, **options: object) -> None:
        self.faults.append(self.source.fault(path, times=FOREVER, **options))

    def at_destination(self, path: str, **options: object) -> None:
        self.faults.append(self.there.fault(path, times=FOREVER, **options))

    def heal(self) -> None:
        self.source.faults.clear()
        self.there.faults.clear()
        self.there.api.auth = None

    def run(self, up: Up, kind: str = "/rules/{}/executions", **rule: object) -> None:
        up.registry(f"from-{self.name}", self.source.url)
        up.registry(f"to-{self.name}", self.there.url)
        up.rule(self.name, f"from-{self.name}", f"to-{self.name}", **rule)
        self.execution = up.ask("POST", kind.format(self.name))["id"]


def network(case: Case, up: Up) -> None:
    case.push()
    case.at_source("/blobs/", method="GET", wire=WireFault(reset_at=5))
    case.run(up)


def server(case: Case, up: Up) -> None:
    case.push()
    case.at_destination("/manifests/v1", method="PUT", status=500)
    case.run(up)


def throttled(case: Case, up: Up) -> None:
    case.push()
    case.at_source("/tags/list", method="GET", status=429)
    case.run(up)


def auth(case: Case, up: Up) -> None:
    case.push()
    case.there.api.auth = BasicAuth({"robot": "right"})
    case.run(up)


def denied(case: Case, up: Up) -> None:
    case.push()
    case.at_destination("/manifests/v1", method="PUT", status=403)
    case.run(up)


def gone(case: Case, up: Up) -> None:
    case.push()
    case.at_source("/blobs/", method="GET", status=404)
    case.run(up)


def invalid(case: Case, up: Up) -> None:
    case.push()
    case.at_destination("/manifests/v1", method="PUT", status=400)
    case.run(up)


def corrupt(case: Case, up: Up) -> None:
    case.push()
    case.at_source("/blobs/", method="GET", wire=WireFault(flip_at=5))
    case.run(up)


def policy(case: Case, up: Up) -> None:
    case.push()
    case.run(up, require={"signature": {"key": Signer("ed25519").public}})


def conflict(case: Case, up: Up) -> None:
    case.push()
    push_image(case.there.storage, "team/app", "v1", mark="somebody else's")
    case.run(up, on_conflict="fail")


def superseded(case: Case, up: Up) -> None:
    case.push()
    moves = iter(range(FOREVER))

    def move(_request: object) -> None:
        number = next(moves)
        push_image(case.source.storage, "team/app", "v1", layer=LAYER + str(number).encode())

    case.at_source("/blobs/", method="GET", before=move)
    case.run(up)


def stopped(case: Case, up: Up) -> None:
    """Somebody stops it while its last request is under way."""
    case.push()
    is_stopped = threading.Event()
    case.at_destination("/manifests/v1", method="PUT", hold=is_stopped)
    case.run(up)
    wait_until(lambda: case.faults[0].fired, 30, "its tag to be put")
    up.ask("POST", f"/executions/{case.execution}/stop")
    is_stopped.set()


def moved(case: Case, up: Up) -> None:
    case.push()
    case.run(up, "/rules/{}/executions")
    up.idle()
    case.push("newer")
    plan = up.ask("POST", "/plans", {"rule": case.name})["id"]
    up.idle()
    case.push("newest")
    case.execution = up.ask("POST", f"/plans/{plan}/executions")["id"]


def verified(case: Case, up: Up) -> None:
    """One verification finds all three: a tag that is not there, one that is behind, and one with a hole."""
    for tag in ("v1", "v2"):
        push_image(case.source.storage, "team/app", tag, layer=LAYER, mark=tag)
    case.run(up)
    up.idle()
    push_image(case.source.storage, "team/app", "v2", layer=LAYER + b"2", mark="newer")
    push_image(case.source.storage, "team/app", "v3", layer=LAYER + b"3")
    case.there.storage.collect_blob(digest_of(LAYER))
    case.execution = up.ask("POST", "/verifications", {"rule": case.name})["id"]


CAUSES = {
    one.__name__: one
    for one in (
        moved, verified, stopped, network, throttled, server, auth, denied, gone, invalid, corrupt, policy, conflict, superseded,
    )
}  # fmt: skip
TESTS = ("Test from-{}", "Test to-{}")
SHOWN = {  # class: what it is shown with, in order; the case that causes it where that has another name
    "denied": (*TESTS, "Retry"),
    "gone": ("Edit the rule", "Retry"),
    "invalid": ("Edit the rule", "Retry"),
    "corrupt": ("Retry", "Verify and repair"),
    "policy": ("Edit the rule", *TESTS),
    "conflict": ("Edit the rule", "Retry"),
    "superseded": ("Retry",),
    "stopped": ("Retry",),
    "moved": ("Plan again",),
    "missing": ("Run the rule", "Verify and repair"),
    "stale": ("Run the rule", "Verify and repair"),
    "hole": ("Verify and repair",),
    "auth": (*TESTS, "Run the rule"),
    "server": ("Retry", *TESTS),
    "throttled": (*TESTS, "Retry"),
    "network": ("Retry", *TESTS),
}
CAUSED_BY = {"missing": "verified", "stale": "verified", "hole": "verified"}
WAITED_FOR = {  # no copy ends with them: it goes on when what it waits for is there
    "region": "test_worker_that_is_nowhere_is_told_with_its_way_out",
    "paused": "test_pause_is_told_with_its_way_out",
}
OF_OUR_OWN = {"bug": "test_fault_of_our_own_is_told_with_what_to_press"}


def test_every_class_is_here() -> None:
    others = WAITED_FOR | OF_OUR_OWN
    assert {*SHOWN, *others} == set(CLASSES)
    assert all(callable(globals()[name]) for name in others.values())


@pytest.fixture(scope="module")
def cases(up: Up) -> Iterator[dict[str, Case]]:
    """All of them at once: they wait beside each other."""
    with ExitStack() as open_:
        made = {}
        for name, cause in CAUSES.items():
            source, there = (open_.enter_context(SampleRegistry()) for _ in range(2))
            made[name] = Case(name, source, there)
            cause(made[name], up)
        yield made
        for name in made:
            up.ask("DELETE", f"/rules/{name}")


@pytest.fixture(scope="module")
def console(browser: Browser, up: Up) -> Iterator[Console]:
    """One tab for all of them."""
    with console_of(browser, up.url, viewport={"width": 1280, "height": 900}) as made:
        made.sign_in(up.token)
        yield made


def row_of(console: Console, name: str) -> Locator:
    row = console.page.get_by_role("table", name="Failures by class").get_by_role("row")
    return row.filter(has=console.page.locator(f".pill:text-is('{name}')"))


@pytest.mark.parametrize("name", SHOWN)
def test_class_is_told_with_what_to_press_and_pressing_leads_on(
    console: Console, up: Up, cases: dict[str, Case], name: str
) -> None:
    case = cases[CAUSED_BY.get(name, name)]
    console.page.goto(f"{console.url}#/executions/{case.execution}")
    row = row_of(console, name)
    row.wait_for(timeout=60_000)

    for fault in case.faults:
        assert fault.fired, f"{fault.path} struck nothing"
    told = row.inner_text()
    assert CLASSES[name].meaning in told
    assert CLASSES[name].fix in told
    presses = row.locator("button, a")
    wanted = [one.format(case.name) for one in SHOWN[name]]
    assert presses.all_inner_texts() == wanted

    case.heal()
    presses.first.click()
    if wanted[0].startswith("Test "):
        console.title(f"from-{case.name}")
        console.page.get_by_role("button", name="Test connection").click()
        console.sees("it speaks the distribution API")
    elif wanted[0] == "Edit the rule":
        console.title(f"Edit {case.name}")
    else:
        console.page.wait_for_url(lambda url: case.execution not in url)
        ended = re.compile("succeeded|partial|failed")
        console.page.locator("h1 .pill").filter(has_text=ended).wait_for()
        assert name == "hole" or console.page.locator("h1 .pill").inner_text() == "succeeded"


def test_one_class_is_retried_alone(console: Console, up: Up) -> None:
    with SampleRegistry() as source, SampleRegistry() as there:
        case = Case("two", source, there)
        for name in ("refused", "lost"):
            push_image(source.storage, f"team/{name}", "v1", layer=name.encode() * 500)
        case.at_source("/team/lost/blobs/", method="GET", status=404)
        case.at_destination("/team/refused/manifests/v1", method="PUT", status=403)
        case.run(up)
        console.page.goto(f"{console.url}#/executions/{case.execution}")
        for name in ("denied", "gone"):
            row_of(console, name).wait_for(timeout=60_000)
        assert all(fault.fired for fault in case.faults)
        case.heal()

        row_of(console, "denied").get_by_role("button", name="Retry").click()
        console.page.wait_for_url(lambda url: case.execution not in url)
        console.page.locator("h1 .pill").filter(has_text="succeeded").wait_for()

        assert (there.storage.tags("team/refused") or {}).keys() == {"v1"}
        assert there.storage.tags("team/lost") is None
        up.ask("DELETE", "/rules/two")


def test_pause_is_told_with_its_way_out(
    console: Console, up: Up, east: SampleRegistry, west: SampleRegistry
) -> None:
    push_image(east.storage, "held/app", "v1")
    up.registry("from-held", east.url)
    up.registry("to-held", west.url)
    up.rule("held", "from-held", "to-held", select=[{"repositories": ["held/**"]}])
    up.ask("POST", "/registries/to-held/pause")
    execution = up.ask("POST", "/rules/held/executions")["id"]
    console.page.goto(f"{console.url}#/executions/{execution}")

    console.sees("registry to-held is paused since")
    console.go("See to-held")
    console.title("to-held")
    console.page.get_by_role("button", name="Resume").click()
    console.page.get_by_role("button", name="Pause").wait_for()
    console.page.goto(f"{console.url}#/executions/{execution}")

    console.page.locator("h1 .pill").filter(has_text="succeeded").wait_for()
    assert (west.storage.tags("held/app") or {}).keys() == {"v1"}
    up.ask("DELETE", "/rules/held")


def test_fault_of_our_own_is_told_with_what_to_press(browser: Browser, tmp_path: Path) -> None:
    """A worker meets an error that nobody expects, twice: that is the end of the copy, not of the worker."""
    crashes = "commit.children_done:1:raise,commit.before_put:1:raise"
    variables = {"TRANSSHIP_TESTING": "true", "TRANSSHIP_CRASH": crashes}
    variables |= {"TRANSSHIP_RETRY_SECONDS": "0.05"}
    with (
        SampleRegistry() as source,
        SampleRegistry() as there,
        running_up(tmp_path, "--workers", "1", **variables) as up,
        console_of(browser, up.url, viewport={"width": 1280, "height": 900}) as console,
    ):
        case = Case("bug", source, there)
        case.push()
        case.run(up)
        up.idle()
        console.sign_in(up.token)
        console.page.goto(f"{console.url}#/executions/{case.execution}")
        row = row_of(console, "bug")
        row.wait_for()
        told = row.inner_text()
        assert CLASSES["bug"].meaning in told
        assert CLASSES["bug"].fix in told
        assert row.locator("button, a").all_inner_texts() == ["Retry"]

        console.go("from-bug/team/app:v1")
        attempts = console.page.get_by_role("table", name="Attempts").get_by_role("row")
        attempts.nth(2).wait_for()
        assert attempts.count() == 3  # with its heading
        first, second = attempts.nth(1).inner_text(), attempts.nth(2).inner_text()
        assert "tried again" in first
        assert "failed" in second
        assert "CrashRaised" in first
        assert "CrashRaised" in second

        console.page.get_by_role("button", name="Retry").click()
        console.page.locator("h1 .pill").filter(has_text="succeeded").wait_for()
        assert case.execution not in console.page.url


def test_worker_that_is_nowhere_is_told_with_its_way_out(browser: Browser, tmp_path: Path) -> None:
    """Of two jurisdictions one has no worker: what is its own waits, says so, and goes on when one comes."""
    with SampleRegistry() as source, SampleRegistry() as there, Lab(tmp_path) as lab:
        push_image(source.storage, "team/app", "v1")
        lab.variables["TRANSSHIP_REGION"] = "us"
        lab.start("api", "scheduler", "worker")
        for region in ("eu", "us"):
            lab.ask("PUT", f"/regions/{region}", {"jurisdiction": region})
        for name, registry in (("from-eu", source), ("to-eu", there)):
            lab.ask("PUT", f"/registries/{name}", {"url": registry.url, "region": "eu"})
        rule = {
            "source": "from-eu",
            "select": [{"repositories": ["**"]}],
            "destinations": [{"registry": "to-eu"}],
        }
        lab.ask("PUT", "/rules/region", rule)
        execution = lab.run("region")
        url = str(lab.client.base_url).removesuffix("/api/v1/")
        with console_of(browser, url, viewport={"width": 1280, "height": 900}) as console:
            console.sign_in(lab.token)
            console.page.goto(f"{console.url}#/executions/{execution}")
            console.sees("no worker is alive in eu, and no other may look at its images")
            assert console.page.locator("main .pill:text-is('region')").count() == 1
            console.go("See where workers are")
            console.title("Regions")
            assert not source.log

            lab.start("worker-eu", TRANSSHIP_REGION="eu")
            console.page.goto(f"{console.url}#/executions/{execution}")
            console.page.locator("h1 .pill").filter(has_text="succeeded").wait_for()
            assert console.page.locator("main .pill:text-is('region')").count() == 0
