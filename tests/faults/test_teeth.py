"""Teeth: without any one of its protections the product is wrong, and the oracle says so (reliability.md 2.2).

Each protection of service/protections.py has a scenario of its own. It is green while the protection is on.
While its process runs without it the same scenario is red by what the oracle finds at registries, in logs and in
the product's answers: neither the scenario nor the oracle looks at the switch.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator

import pytest

from service.protections import PROTECTIONS
from tests.faults import teeth_content as content
from tests.faults import teeth_control as control
from tests.faults.lab import ROLES, Lab
from tests.faults.teeth import Stage, Tooth
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer
from tests.support.tally import bitten

pytestmark = pytest.mark.timeout(180)

PATIENCE_SECONDS = 30.0
FOR_EVER_SECONDS = 5.0
"""With the lab's timers recovery takes 3 to 4 s: what has not come by then does not come."""

TEETH = [
    Tooth("fence", "worker", content.a_frozen_process_writes_late, "the tag is .*, at the source"),
    Tooth("lease", "worker", content.many_images_want_one_layer, r"was read \d+ times at the source"),
    Tooth("read-back", "worker", content.a_tag_is_accepted_and_not_kept, "the tag is missing"),
    Tooth("digest-check", "worker", content.a_byte_flips_before_a_registry_that_believes_us, "has other bytes"),
    Tooth("digest-check", "worker", content.a_byte_flips_in_a_stream, "has other bytes", nightly=True),
    Tooth("size-check", "worker", content.a_manifest_tells_a_wrong_size, r"named .*, and its blob .* had \d+ bytes"),
    Tooth("head-distrust", "worker", content.a_registry_tells_of_collected_blobs, "cannot be read"),
    Tooth("redirect-strip", "worker", content.blobs_are_at_another_origin, "holds the secret of"),
    Tooth("realm-check", "worker", content.a_registry_names_a_foreign_token_service, "holds the secret of"),
    Tooth("attempt-counter", "worker", control.a_blob_is_corrupt_for_good, "it has not ended"),
    Tooth("forward-only", "worker", control.a_message_comes_again_when_all_is_over, "FALSE SUCCESS.* succeeded, and .* failed"),
    Tooth("complete-list", "scheduler", control.a_source_answers_half, "was deleted, and nobody asked"),
    Tooth("delete-cap", "scheduler", control.most_tags_go_at_once, "was deleted, and nobody asked"),
    Tooth("outbox", "scheduler", control.a_message_is_lost_before_it_is_sent, "it has not ended"),
    Tooth("reconciler", "scheduler", control.a_worker_dies_and_another_starts, "it has not ended"),
    Tooth("replay", "api", control.a_notification_is_sent_again_by_others, "requests at the source"),
]  # fmt: skip
"""By process: each time that it changes two are started anew."""

CASES = [
    pytest.param(tooth, id=tooth.id, marks=[pytest.mark.nightly] if tooth.nightly else [])
    for tooth in TEETH
]


def test_every_protection_has_a_scenario_of_its_own() -> None:
    assert [t.protection for t in TEETH if not t.nightly] == list(
        dict.fromkeys(t.protection for t in TEETH)
    )
    assert {tooth.protection for tooth in TEETH} == PROTECTIONS.keys()
    assert len({tooth.scenario for tooth in TEETH}) == len(TEETH)


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)],
)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        postgres = None
        if request.param == "postgresql":
            postgres = stack.enter_context(PostgresServer())
        lab = stack.enter_context(Lab(tmp_path_factory.mktemp("teeth"), postgres=postgres))
        lab.variables["TRANSSHIP_ABSENCE_SECONDS"] = str(control.ABSENCE_SECONDS)
        yield lab.start(*ROLES)


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    """No fault is left after a test, nobody stands still, and who stood still counts as alive again."""
    yield
    lab.heal()
    for process in lab.processes.values():
        process.send_signal(signal.SIGCONT)
    if lab.processes["worker"].alive:
        wait_until(lambda: lab.holds_its_lease("worker"), 20, "the worker's lease")


@pytest.mark.parametrize("tooth", CASES)
def test_with_its_protection_the_oracle_finds_nothing(lab: Lab, tooth: Tooth) -> None:
    for role in ROLES:
        lab.rearm(role, {})

    faults = tooth.scenario(Stage(lab, tooth.name("with"), PATIENCE_SECONDS))

    assert faults == []


@pytest.mark.parametrize("tooth", CASES)
def test_without_it_the_oracle_finds_what_is_wrong(lab: Lab, tooth: Tooth) -> None:
    off = {"TRANSSHIP_TESTING": "true", "TRANSSHIP_WITHOUT": tooth.protection}
    for role in ROLES:
        lab.rearm(role, off if role == tooth.role else {})

    faults = tooth.scenario(Stage(lab, tooth.name("without"), FOR_EVER_SECONDS))

    print(*faults, sep="\n")
    assert faults, f"{tooth.protection} is off, and the oracle finds nothing"
    assert any(re.search(tooth.fault, fault) for fault in faults), faults
    bitten(tooth.protection)
