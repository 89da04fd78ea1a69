"""Lists of tags that break off, go in circles, lie or are empty: rows F031-F033, and what is deleted for them.

Every rule here deletes at the destination what is gone at the source. A list that is not whole takes no tag
away (P6): what is really gone goes when the list is whole again, and nothing else.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request, Response, WireFault
from api.samples.registry import SampleRegistry
from tests.faults.lab import PREFIX, Lab
from tests.oracle.deletions import Seen, judge_deletions
from tests.support.content import push_image
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(180)

ABSENCE_SECONDS = 0.2
PAGES, A_PAGE = 58, 2
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose two looks at a tag that is gone are soon one after the other."""
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        lab.variables["TRANSSHIP_ABSENCE_SECONDS"] = str(ABSENCE_SECONDS)
        yield lab.start("api", "scheduler", "worker")


class Mirror:
    """A repository with many tags and its mirror, in registries that page lists and delete tags."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.repository = f"{name}/app"
        self.east = SampleRegistry(tag_page=A_PAGE)
        self.west = SampleRegistry()

    def __enter__(self) -> Self:
        self.east.start()
        self.west.start()
        for name, registry in (("east", self.east), ("west", self.west)):
            self.lab.ask("PUT", f"/registries/{name}-{self.name}", {"url": registry.url})
        place = {"registry": f"west-{self.name}", "repository": PREFIX + "{repository}"}
        self.lab.rule(
            self.name,
            source=f"east-{self.name}",
            select=[{"repositories": [f"{self.name}/**"]}],
            destinations=[place],
            delete={"enabled": True, "grace": "0s"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.ask("DELETE", f"/rules/{self.name}")
        self.east.close()
        self.west.close()

    def push(self, count: int) -> Mirror:
        """Have so many tags at the source, of one image, and bring them over."""
        for number in range(count):
            push_image(self.east.storage, self.repository, f"v{number:03}", mark="same")
        assert self.run()["state"] == "succeeded"
        assert len(self.standing()) == count
        return self

    def run(self) -> dict[str, Any]:
        return self.lab.wait(self.lab.run(self.name), 90)

    def standing(self) -> set[str]:
        """The tags at the destination."""
        return set(self.west.storage.tags(PREFIX + self.repository) or {})

    def remove(self, *tags: str) -> None:
        for tag in tags:
            assert self.east.storage.delete_tag(self.repository, tag)

    def list_fault(self, **fault: Any) -> FaultRule:
        return self.east.fault(f"/v2/{self.repository}/tags/list", method="GET", **fault)

    def hold_the_next_listing(self) -> threading.Event:
        """Have whoever begins to list after the next one wait until the event is set."""
        first = rf"^/v2/{self.repository}/tags/list\?n=1000$"
        gate = threading.Event()
        self.east.fault(first, method="GET", nth=2, times=FOREVER, hold=gate)
        return gate

    def lists(self) -> list[str]:
        """The paths of the requests for the list so far."""
        start = f"/v2/{self.repository}/tags/list"
        return [line.path for line in list(self.east.log) if line.path.startswith(start)]

    def deletes(self) -> list[str]:
        """The tags that were deleted at the destination, as they were asked for."""
        return [
            line.path.rpartition("/")[2]
            for line in list(self.west.log)
            if line.method == "DELETE" and "/manifests/" in line.path
        ]

    def heal(self) -> None:
        self.east.faults.clear()
        self.west.faults.clear()

    def goes(self, *tags: str) -> None:
        """Wait until these and no other tags are gone, each after two looks that found it gone."""
        wait_until(lambda: set(self.deletes()) >= set(tags), 20, f"the deletion of {tags}")
        assert sorted(self.deletes()) == sorted(tags)
        declared = {(PREFIX + self.repository, tag): (self.repository, tag) for tag in tags}
        logs = [
            [Seen(one.method, one.path, one.status, one.started) for one in list(registry.log)]
            for registry in (self.east, self.west)
        ]
        assert judge_deletions(*logs, declared, apart_seconds=ABSENCE_SECONDS) == []


@pytest.fixture
def mirror(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Mirror]:
    with Mirror(lab, f"list-{next(_numbers)}") as made:
        yield made


@pytest.fixture(scope="module")
def control(lab: Lab) -> Iterator[Mirror]:
    """A mirror without faults."""
    with Mirror(lab, "control") as made:
        yield made.push(4)


def the_deleter_has_come_by(control: Mirror) -> None:
    """Wait until a tag of another rule, that is really gone, has been deleted from start to end."""
    tag = min(control.standing())
    push_image(control.east.storage, control.repository, f"w{next(_numbers):03}", mark="same")
    control.remove(tag)
    assert control.run()["state"] == "succeeded"
    wait_until(lambda: tag in control.deletes(), 20, "a deletion of the other rule")


# ---- F031: a list that breaks off ----------------------------------------------------------------


def test_f031_a_list_that_breaks_off_once_on_page_57_goes_on_there(mirror: Mirror) -> None:
    mirror.push(PAGES * A_PAGE)
    mirror.remove("v003", "v110")
    before = len(mirror.lists())
    rule = mirror.list_fault(nth=57, wire=WireFault(reset_at=10))
    counted = mirror.hold_the_next_listing()  # the deleter's own, as soon as the run has ended

    assert mirror.run()["state"] == "succeeded"

    assert rule.fired
    assert len(mirror.lists()) - before <= PAGES + 3
    counted.set()
    mirror.goes("v003", "v110")


@pytest.mark.nightly
def test_f031_a_list_that_dies_on_page_57_deletes_nothing(mirror: Mirror, control: Mirror) -> None:
    mirror.push(PAGES * A_PAGE)
    mirror.remove("v003", "v110")
    rule = mirror.list_fault(nth=57, times=FOREVER, wire=WireFault(reset_at=10))
    before = len(mirror.lists())

    ended = mirror.run()

    assert rule.fired
    assert ended["state"] in ("partial", "failed"), ended
    assert len(mirror.lists()) - before <= 57 + 40
    the_deleter_has_come_by(control)
    assert mirror.deletes() == []
    assert len(mirror.standing()) == PAGES * A_PAGE
    mirror.heal()
    assert mirror.run()["state"] == "succeeded"
    mirror.goes("v003", "v110")


def test_f031_a_planner_that_dies_on_page_57_goes_on_near_there(mirror: Mirror) -> None:
    for number in range(PAGES * A_PAGE):
        push_image(mirror.east.storage, mirror.repository, f"v{number:03}", mark="same")
    gate = threading.Event()
    rule = mirror.list_fault(nth=57, hold=gate)

    identity = mirror.lab.run(mirror.name)
    wait_until(lambda: rule.fired, 30, "page 57")
    mirror.lab.processes["worker"].kill()
    gate.set()
    mirror.lab.start("worker")

    assert mirror.lab.wait(identity, 60)["state"] == "succeeded"
    assert len(mirror.standing()) == PAGES * A_PAGE
    assert len(mirror.lists()) <= PAGES + 5, "it was listed from the beginning"


# ---- F032: a list that leads astray --------------------------------------------------------------


def link(target: str) -> dict[str, Any]:
    return {"headers": {"Link": f'<{target}>; rel="next"'}, "times": FOREVER}


@pytest.mark.parametrize("to", ["itself", "the-first-page"])
def test_f032_a_list_in_a_circle_is_cut_and_deletes_nothing(
    mirror: Mirror, control: Mirror, to: str
) -> None:
    mirror.push(8)
    mirror.remove("v001", "v007")
    first = f"/v2/{mirror.repository}/tags/list?n=1000"

    def circle(request: Request, response: Response) -> None:
        response.headers["Link"] = f'<{request.target if to == "itself" else first}>; rel="next"'

    rule = mirror.list_fault(nth=3, times=FOREVER, after=circle)
    before = len(mirror.lists())

    ended = mirror.run()

    assert rule.fired
    assert ended["state"] in ("partial", "failed"), ended
    assert len(mirror.lists()) - before <= 40
    the_deleter_has_come_by(control)
    assert mirror.deletes() == []
    mirror.heal()
    assert mirror.run()["state"] == "succeeded"
    mirror.goes("v001", "v007")


def test_f032_a_list_that_goes_on_at_another_host_is_not_followed(
    mirror: Mirror, control: Mirror
) -> None:
    mirror.push(8)
    mirror.remove("v001", "v007")
    with FaultProxy(mirror.east.url) as trap:
        target = f"http://localhost:{trap.port}/v2/{mirror.repository}/tags/list?last=v003"
        rule = mirror.list_fault(nth=2, **link(target))
        ended = mirror.run()
        assert rule.fired
        assert trap.log == []
    assert ended["state"] in ("partial", "failed"), ended
    the_deleter_has_come_by(control)
    assert mirror.deletes() == []
    mirror.heal()
    assert mirror.run()["state"] == "succeeded"
    mirror.goes("v001", "v007")


# ---- F033: a list that lacks tags ----------------------------------------------------------------

UNKNOWN = b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}'


def tags(*names: Any) -> bytes:
    return json.dumps({"name": "app", "tags": list(names)}).encode()


def all_at_once(request: Request, response: Response) -> None:
    """As registries that know no pages answer: `n` is ignored."""
    response.headers.pop("Link", None)
    response.body = tags(*(f"v{number:03}" for number in range(8)))


LISTS: dict[str, dict[str, Any]] = {
    "empty": {"status": 200, "body": tags()},
    "null": {"status": 200, "body": b'{"name":"app","tags":null}'},
    "none": {"status": 200, "body": b"{}"},
    "404": {"status": 404, "body": UNKNOWN},
    "404-without-a-word": {"status": 404},
    "no-json": {"status": 200, "body": b"<html>it works</html>"},
    "a-number": {"status": 200, "body": b'{"name":"app","tags":7}'},
    "cut-short": {"status": 200, "body": tags("v000", "v001")},
    "other-names": {"status": 200, "body": tags("v000", 5, None, "a/b", "", "v001", "v001", "x" * 200)},
    "n-ignored": {"after": all_at_once},
    "401": {"status": 401},
    "500": {"status": 500},
}  # fmt: skip


AT_NIGHT = {"none", "a-number", "404-without-a-word", "other-names", "401", "500"}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.nightly] if kind in AT_NIGHT else []) for kind in LISTS],
)
def test_f033_a_list_that_lacks_tags_takes_none_away(
    mirror: Mirror, control: Mirror, kind: str
) -> None:
    mirror.push(8)
    rule = mirror.list_fault(times=FOREVER, **LISTS[kind])

    ended = mirror.run()

    assert rule.fired
    the_deleter_has_come_by(control)
    assert mirror.deletes() == []
    assert len(mirror.standing()) == 8
    if kind in ("no-json", "a-number", "401", "500"):
        assert ended["state"] in ("partial", "failed"), ended
    mirror.heal()
    mirror.remove("v004")
    assert mirror.run()["state"] == "succeeded"
    mirror.goes("v004")
