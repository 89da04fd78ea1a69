"""A registry goes away under a running service: its rule is held back, nothing fails, and it goes on by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.samples.faults import FOREVER
from api.samples.registry import SampleRegistry
from service.bootstrap import Services
from service.model.health import HEALTHY, UNHEALTHY, Look
from service.settings import Settings
from service.store.health import FAILED_LOOKS, HealthStore
from tests.support.images import digest_at, push_image
from tests.support.processes import wait_until
from tests.support.transship import clean_environment, transship, write_rules
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
PATIENCE_SECONDS = "12"
CHECK_SECONDS = "3"  # and twice a second while it is not well


def held(up: Up, execution: str) -> str:
    """Return why an execution is held back, "" while it is not."""
    holds = up.ask("GET", f"/executions/{execution}")["held_by"]
    return str(holds[0]["reason"]) if holds else ""


def test_rule_is_held_back_for_longer_than_copies_are_patient_and_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    with (
        SampleRegistry() as east,
        SampleRegistry() as west,
        running_up(
            tmp_path / "up",
            TRANSSHIP_HEALTH_CHECK_SECONDS=CHECK_SECONDS,
            TRANSSHIP_OUTAGE_PATIENCE_SECONDS=PATIENCE_SECONDS,
        ) as up,
    ):
        digests = {f"team/app{n}": push_image(east, f"team/app{n}", "v1") for n in range(5)}
        up.registry("east", east.url)
        up.registry("west", west.url)
        up.rule("fleet", "east", "west")
        wait_until(
            lambda: (up.ask("GET", "/registries/west")["health"] or {}).get("state") == "healthy",
            20,
            "the first check",
        )
        west.fault("", status=503, times=FOREVER)
        execution = up.ask("POST", "/rules/fleet/executions")["id"]
        reason = wait_until(lambda: held(up, execution), 30, "the rule to be held back")
        assert "503" in reason
        environment = {
            **clean_environment(),
            "TRANSSHIP_URL": up.url,
            "TRANSSHIP_TOKEN": up.token,
        }
        listed = transship("registries", "ls", environment=environment).stdout
        assert "held back: west: GET /v2/: 503" in listed
        since = up.ask("GET", "/registries/west")["health"]["since"]
        checked = up.ask("GET", "/registries/west")["health"]["checked_at"]
        wait_until(  # well over the patience of copies, which is over meanwhile
            lambda: (
                up.ask("GET", f"/executions/{execution}")["seconds"] > 2 * float(PATIENCE_SECONDS)
            ),
            60,
            "twice the patience of copies",
        )
        seen = up.ask("GET", f"/executions/{execution}")
        assert (seen["state"], seen["copies"]["failed"]) == ("running", 0)
        health = up.ask("GET", "/registries/west")["health"]
        assert health["since"] == since
        assert health["checked_at"] > checked, "it is asked all the while"

        west.faults.clear()
        up.idle(30)

        assert up.ask("GET", f"/executions/{execution}")["state"] == "succeeded"
        assert {name: digest_at(west, name, "v1") for name in digests} == digests
        shown = up.ask("GET", "/registries/west")
        assert (shown["health"]["state"], shown["paused_at"]) == ("healthy", None)


def test_one_shot_command_does_not_wait_for_checks_that_nobody_makes(tmp_path: Path) -> None:
    """A service was stopped while it held a registry back; `sync` over its data just asks it."""
    with SampleRegistry() as east, SampleRegistry() as west:
        push_image(east, "team/app", "v1")
        rules = write_rules(tmp_path / "transship.yaml", east.url, west.url)
        words = ["sync", "-f", str(rules), "--data", str(tmp_path / "data")]
        assert transship(*words).returncode == 0
        services = Services(Settings(database_url=f"sqlite:///{tmp_path}/data/transship.db"))
        store = HealthStore(services.database)
        for look in (HEALTHY, *[UNHEALTHY] * FAILED_LOOKS):
            store.note(Look("destination", look, "503"))
        health = services.registries.get("destination").health
        assert health is not None
        assert health.holds
        services.close()

        digest = push_image(east, "team/app", "v2")
        done = transship(*words, timeout=60)

        assert done.returncode == 0, done.stderr
        assert digest_at(west, "mirror/team/app", "v2") == digest
