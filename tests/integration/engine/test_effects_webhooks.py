"""Webhooks out, seen at the receiver: each field of a webhook changes what comes in there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from service.errors import AddressRefused, NetworkError
from service.model.project import Grant, Project
from service.model.states import CopyState, ExecutionState
from service.model.subscription import Subscription
from service.registry.post import post
from service.replication.notify import Notifier
from service.store import tables
from service.store.keyring import write_new_key
from service.store.tables_governance import webhook_deliveries, webhooks
from service.store.webhooks import Delivery
from tests.integration.engine.databases import on_both_databases
from tests.support.load import busy
from tests.support.processes import wait_until
from tests.support.receiver import Receiver
from tests.support.world import ROOT, World, a_rule, some_bytes


@pytest.fixture
def world(world: World) -> World:
    key = world.folder / "keys"
    write_new_key(key)
    world.settings = replace(
        world.settings, secret_key_file=str(key), webhook_retry_seconds=0.01, webhook_attempts=4
    )
    world.services = world.open(world.settings)
    return world


@contextmanager
def sending(world: World) -> Iterator[None]:
    """The sender's loop runs, as in the scheduler."""
    stop = threading.Event()
    thread = threading.Thread(target=world.services.notifier().run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def subscribe(world: World, url: str, name: str = "ops", **more: Any) -> None:
    secret = more.pop("secret", None)
    wanted = Subscription(name, url, more.pop("events", ("execution.*",)), **more)
    world.services.webhooks.put(wanted, document={"name": name}, secret=secret)


def run(world: World, *repositories: str, rule: str = "fleet", project: str = "default") -> str:
    """Carry out a rule; what it names and the source does not have fails."""
    saved = replace(a_rule(*repositories, name=rule), project=project)
    execution = world.services.executions.create(saved, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())
    world.services.dispatching.end_executions()
    assert world.services.executions.get(execution).state.ended
    return execution


def good(world: World, repository: str = "team/app") -> str:
    world.push(repository, "v1", [some_bytes(repository, 1000)])
    return repository


def deliveries(world: World, name: str = "ops") -> list[Delivery]:
    return world.services.webhooks.deliveries(name)


def all_ended(world: World, name: str = "ops") -> bool:
    found = deliveries(world, name)
    return bool(found) and all(one.state != "pending" for one in found)


def test_effect_webhooks_url(world: World) -> None:
    with Receiver() as one, Receiver() as two:
        subscribe(world, one.url, "one")
        subscribe(world, f"{two.url}?team=a", "two")
        execution = run(world, good(world))
        with sending(world):
            wait_until(lambda: one.received and two.received, 10)

    event = one.received[0].event
    assert event["specversion"] == "1.0"
    assert event["type"] == "transship.execution.succeeded"
    assert event["subject"] == f"executions/{execution}"
    assert event["datacontenttype"] == "application/json"
    assert (event["data"]["rule"], event["data"]["state"]) == ("fleet", "succeeded")
    assert one.received[0].headers["content-type"].startswith("application/cloudevents+json")
    assert two.received[0].path == "/events?team=a"
    assert event["id"] != two.received[0].event["id"]


def test_effect_webhooks_events(world: World) -> None:
    with Receiver() as executions, Receiver() as copies, Receiver() as everything:
        subscribe(world, executions.url, "executions", events=("execution.succeeded",))
        subscribe(world, copies.url, "copies", events=("copy.*",))
        subscribe(world, everything.url, "everything", events=("*",))
        run(world, good(world))
        with sending(world):
            wait_until(lambda: len(everything.received) == 2, 10)
            wait_until(lambda: copies.received and executions.received, 10)

    assert executions.types == ["transship.execution.succeeded"]
    assert copies.types == ["transship.copy.copied"]
    assert everything.types == ["transship.copy.copied", "transship.execution.succeeded"]
    data = copies.received[0].event["data"]
    assert data["source"] == "east/team/app:v1"
    assert data["destination"] == "west/mirror/team/app:v1"


@on_both_databases
def test_copies_that_are_stopped_in_bulk_are_told_one_by_one_as_the_receiver_takes_them(
    world: World,
) -> None:
    repositories = [good(world, f"team/app{number}") for number in range(7)]
    with Receiver() as copies, Receiver() as stops, Receiver() as executions:
        subscribe(world, copies.url, "copies", events=("copy.*",))
        subscribe(world, stops.url, "stops", events=("copy.stopped",), rules=("fleet",))
        subscribe(world, executions.url, "executions", events=("execution.*",))
        subscribe(world, stops.url, "others", events=("copy.stopped",), rules=("other",))
        saved = world.services.saved_plans.create(a_rule("team/*"), trigger="test")
        assert world.services.planner.plan(saved, world.services.boot)
        execution = world.plan("team/*")
        world.services.executions.request_stop(execution, reason="enough")
        assert deliveries(world, "copies") == []  # the stop itself has written one row a webhook
        world.services.executions.request_stop(execution)  # and once only
        world.services.dispatching.end_executions()
        with sending(world):
            wait_until(lambda: len(copies.received) == len(stops.received) == 7, 10)
            wait_until(lambda: all_ended(world, "copies") and all_ended(world, "stops"), 10)

    assert set(copies.types) == set(stops.types) == {"transship.copy.stopped"}
    told = [one.event["data"] for one in copies.received]
    assert {data["destination"] for data in told} == {f"west/mirror/{r}:v1" for r in repositories}
    assert {(data["execution"], data["state"], data["reason"]) for data in told} == {
        (execution, "stopped", "enough")
    }
    assert len({one.event["id"] for one in copies.received}) == 7
    assert executions.types == ["transship.execution.stopped"]
    assert deliveries(world, "others") == []


@on_both_databases
def test_stopped_copies_wait_for_a_receiver_that_has_much_to_take_and_come_in_pages(
    world: World,
) -> None:
    for number in range(7):
        good(world, f"team/app{number}")
    subscribe(world, "http://127.0.0.1:9/", events=("copy.*",))
    execution = world.plan("team/*")
    world.services.executions.request_stop(execution)
    store = world.services.webhooks

    assert [store.expand(3), len(deliveries(world))] == [3, 3]
    assert [store.expand(3, few_pending=2), len(deliveries(world))] == [0, 3]
    assert [store.expand(3) for _ in range(3)] == [3, 1, 0]
    assert len(deliveries(world)) == 7


@on_both_databases
def test_a_stop_that_cannot_be_told_of_keeps_no_other_webhook_waiting(world: World) -> None:
    with Receiver() as receiver:
        for name in ("a-broken", "fine"):
            subscribe(world, receiver.url, name, events=("copy.stopped",))
        subscribe(world, receiver.url, "b-broken", events=("execution.*",))
        execution = world.plan(good(world))
        world.services.executions.request_stop(execution)
        world.services.dispatching.end_executions()  # one event waits, and the stop of one copy
        with world.services.database.read() as connection:
            rows = connection.execute(select(webhooks.c.name, webhooks.c.spec)).all()
        specs = {row.name: row.spec for row in rows}

        def write(name: str, spec: str) -> None:
            world.services.database.write(
                lambda connection: connection.execute(
                    update(webhooks).where(webhooks.c.name == name).values(spec=spec)
                )
            )

        for name in ("a-broken", "b-broken"):
            write(name, '{"of": "a later version"}')
        with sending(world):
            wait_until(lambda: all_ended(world, "fine"), 10)
        assert len(receiver.received) == 1

        for name in ("a-broken", "b-broken"):
            write(name, specs[name])
        assert world.services.webhooks.expand() == 0  # its turn is in a minute
        world.services.database.write(
            lambda connection: connection.execute(update(webhook_deliveries).values(not_before=0))
        )
        with sending(world):
            wait_until(lambda: all_ended(world, "a-broken") and all_ended(world, "b-broken"), 10)

    assert len(receiver.received) == 3


@on_both_databases
def test_a_skipped_copy_is_told_with_who_goes_on(world: World) -> None:
    repository = good(world)
    with Receiver() as receiver:
        subscribe(world, receiver.url, events=("copy.skipped", "execution.stopped"))
        rule = a_rule(repository)
        first, second = (
            world.services.executions.create_tags(rule, [(repository, "v1")]).id for _ in range(2)
        )
        for execution in (first, second):
            assert world.services.planner.plan(execution, world.services.boot)
        world.run_to_end(second, world.party())
        world.services.dispatching.end_executions()
        with sending(world):
            wait_until(lambda: len(receiver.received) == 2, 10)

    told = {one.event["type"]: one.event["data"] for one in receiver.received}
    assert {data["execution"] for data in told.values()} == {first}
    assert {data["reason"] for data in told.values()} == {
        f"execution {second} was asked for the same tag later"
    }
    assert told["transship.copy.skipped"]["class"] == "overtaken"


def test_effect_webhooks_only(world: World) -> None:
    with Receiver() as failures, Receiver() as everything:
        subscribe(world, failures.url, "failures", events=("*",), only_failures=True)
        subscribe(world, everything.url, "everything", events=("*",))
        run(world, good(world))
        run(world, "team/missing", rule="broken")
        with sending(world):
            wait_until(lambda: all_ended(world, "everything"), 10)
            wait_until(lambda: all_ended(world, "failures"), 10)

    assert failures.types
    assert all("failed" in one or "partial" in one for one in failures.types)
    assert len(everything.types) > len(failures.types)


def test_effect_webhooks_rules(world: World) -> None:
    with Receiver() as receiver:
        subscribe(world, receiver.url, rules=("one",))
        run(world, good(world), rule="one")
        run(world, good(world), rule="two")
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    assert [one.event["data"]["rule"] for one in receiver.received] == ["one"]


@pytest.mark.parametrize("field", ["projects", "project"])
def test_effect_webhooks_projects(world: World, field: str) -> None:
    everything = (Grant("east", ("**",)),), (Grant("west", ("**",)),)
    world.services.projects.put(Project("team-a", *everything), document={"name": "team-a"})
    with Receiver() as receiver:
        subscribe(world, receiver.url, **{field: ("team-a",) if field == "projects" else "team-a"})
        run(world, good(world), rule="one", project="team-a")
        run(world, good(world), rule="two")
        if field == "projects":
            with sending(world):
                wait_until(lambda: all_ended(world), 10)
            assert [one.event["data"]["project"] for one in receiver.received] == ["team-a"]
        assert [one.event for one in deliveries(world)] == ["execution.succeeded"]


def test_effect_webhooks_project(world: World) -> None:
    """A project's webhook is no way into the private network; the platform's own may go there."""
    with Receiver() as receiver:
        subscribe(world, receiver.url, "platform")
        subscribe(world, receiver.url, "team", project="default")
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world, "platform") and all_ended(world, "team"), 15)

    assert len(receiver.received) == 1
    assert deliveries(world, "platform")[0].state == "delivered"
    assert deliveries(world, "team")[0].state == "failed"
    assert "address not public" in deliveries(world, "team")[0].reason


def test_effect_webhooks_secret(world: World) -> None:
    with Receiver() as signed, Receiver() as plain:
        subscribe(world, signed.url, "signed", secret="a-signing-word")
        subscribe(world, plain.url, "plain")
        run(world, good(world))
        with sending(world):
            wait_until(lambda: signed.received and plain.received, 10)

    assert signed.received[0].is_signed_with("a-signing-word")
    assert not signed.received[0].is_signed_with("another")
    assert "transship-signature" not in plain.received[0].headers


def test_effect_webhooks_enabled(world: World) -> None:
    with Receiver() as on, Receiver() as off:
        subscribe(world, on.url, "on")
        subscribe(world, off.url, "off", enabled=False)
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world, "on"), 10)

    assert (len(on.received), len(off.received), deliveries(world, "off")) == (1, 0, [])


def test_receiver_that_recovers_gets_the_same_id_again(world: World) -> None:
    with Receiver("refuse") as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        with sending(world):
            wait_until(lambda: len(receiver.received) >= 2, 10)
            receiver.mode = "ok"
            wait_until(lambda: all_ended(world), 10)

    assert len({one.headers["transship-event"] for one in receiver.received}) == 1
    assert len({one.event["id"] for one in receiver.received}) == 1
    assert deliveries(world)[0].state == "delivered"
    assert [int(one.headers["transship-attempt"]) for one in receiver.received] == list(
        range(1, len(receiver.received) + 1)
    )


def test_receiver_that_refuses_for_good_is_left_alone_after_so_many_attempts(world: World) -> None:
    with Receiver("refuse") as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    found = deliveries(world)[0]
    assert (found.state, found.attempts, found.status) == ("failed", 4, 500)
    assert len(receiver.received) == 4


def test_redirect_is_not_followed(world: World) -> None:
    with Receiver("redirect") as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    assert {one.path for one in receiver.received} == {"/events"}
    assert "redirects are not followed" in deliveries(world)[0].reason


def test_reply_without_end_is_cut(world: World) -> None:
    with Receiver("flood") as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    assert deliveries(world)[0].state == "delivered"


def test_receiver_that_hangs_keeps_neither_copies_nor_other_receivers_waiting(world: World) -> None:
    with Receiver("hang") as bad, Receiver() as fine:
        subscribe(world, bad.url, "bad", events=("*",))
        subscribe(world, fine.url, "fine", events=("*",))
        for number in range(12):
            good(world, f"team/app{number}")
        with sending(world):
            began = time.monotonic()
            run(world, "team/*")
            wait_until(lambda: len(fine.received) == 13, 8)
            took = time.monotonic() - began
            bad.let_go.set()
            bad.mode = "ok"

    assert took < 8 * busy()
    assert len(bad.received) <= 13 * 4


def test_slow_reply_ends_at_the_deadline() -> None:
    with Receiver("drip") as receiver:
        began = time.monotonic()
        with pytest.raises(NetworkError):
            post(receiver.url, {}, b"{}", private=True, seconds=0.5)
        assert time.monotonic() - began < 5 * busy()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://localhost:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "http://[::1]:{port}/",
    ],
)
def test_project_s_webhook_reaches_public_addresses_only(url: str) -> None:
    with Receiver() as receiver:
        port = receiver.url.rsplit(":", 1)[1].split("/")[0]
        with pytest.raises(AddressRefused):
            post(url.replace("{port}", port), {}, b"{}", private=False)
        assert receiver.received == []


def test_metadata_service_is_refused_to_the_platform_too() -> None:
    with pytest.raises(AddressRefused):
        post("http://169.254.169.254/latest", {}, b"{}", private=True)


def test_sender_killed_between_send_and_mark_sends_the_same_id_again(world: World) -> None:
    """SIGKILL in a process of its own, right after the receiver has taken the event."""
    with Receiver() as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        code = (
            "import os, signal\n"
            "from service.bootstrap import Services\n"
            "from service.settings import Settings\n"
            "from service.registry.post import post\n"
            "from service.replication.notify import Notifier\n"
            "services = Services(Settings.from_env())\n"
            "def send(*words, **more):\n"
            "    post(*words, **more)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "notifier = Notifier(services.settings, services.webhooks, send)\n"
            "[letter] = services.webhooks.take(1, 0.5)\n"
            "notifier.deliver(letter)\n"
        )
        with world.process("sender", "-c", code) as process:
            wait_until(lambda: not process.alive, 20)
        assert process.returncode == -signal.SIGKILL
        assert deliveries(world)[0].state == "pending"
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    assert len(receiver.received) == 2
    assert len({one.event["id"] for one in receiver.received}) == 1


def test_event_is_saved_by_the_transaction_that_it_tells_of(world: World) -> None:
    """Ends as often as is tried: one event for each execution, whoever ends it."""
    with Receiver() as receiver:
        subscribe(world, receiver.url, events=("*",))
        execution = run(world, good(world))
        for _ in range(3):
            world.services.dispatching.end_executions()

    assert sorted(one.event for one in deliveries(world)) == ["copy.copied", "execution.succeeded"]
    assert world.services.executions.get(execution).state is ExecutionState.SUCCEEDED
    assert world.states(execution) == [CopyState.COPIED]


@on_both_databases
def test_two_senders_send_each_event_once(world: World) -> None:
    with Receiver() as receiver:
        subscribe(world, receiver.url, events=("*",))
        for number in range(10):
            good(world, f"team/app{number}")
        run(world, "team/*")
        other = Notifier(world.settings, world.party().services.webhooks)
        stop = threading.Event()
        thread = threading.Thread(target=other.run, args=(stop,))
        thread.start()
        with sending(world):
            wait_until(lambda: all_ended(world), 15)
        stop.set()
        thread.join(30)

    assert len(receiver.received) == 11
    assert len({one.event["id"] for one in receiver.received}) == 11


def test_receiver_s_code_of_the_how_to_page_tells_genuine_from_forged(world: World) -> None:
    page = (ROOT / "docs/how-to/webhooks.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    with Receiver() as receiver:
        subscribe(world, receiver.url, secret="a-signing-word")
        run(world, good(world))
        with sending(world):
            wait_until(lambda: all_ended(world), 10)

    [got] = receiver.received
    header = got.headers["transship-signature"]
    assert names["is_genuine"](b"a-signing-word", header, got.body)
    assert not names["is_genuine"](b"a-signing-word", header, got.body + b" ")
    assert not names["is_genuine"](b"another", header, got.body)


def test_effect_freshness(world: World) -> None:
    """A rule that is behind its objective is told of once, and once more when it has caught up."""
    services = world.services
    with Receiver() as receiver:
        subscribe(world, receiver.url, events=("rule.*",))
        for name, freshness in (("late", 3600.0), ("calm", None)):
            saved = replace(a_rule(good(world), name=name), freshness_seconds=freshness)
            services.rules.put(saved, document={})
        freshness_of = services.freshness_keeper
        assert freshness_of.judge() == []
        services.database.write(
            lambda connection: connection.execute(
                tables.rules.update().values(created_at=tables.rules.c.created_at - 3700)
            )
        )

        assert freshness_of.judge() == [("late", True)]
        assert freshness_of.judge() == []
        assert services.rules.get("late").late_since is not None
        run(world, "team/app", rule="late")
        assert freshness_of.judge() == [("late", False)]
        with sending(world):
            wait_until(lambda: len(receiver.received) == 2, 10)

    told = [one.event for one in receiver.received]
    assert {event["type"] for event in told} == {"transship.rule.late", "transship.rule.fresh"}
    assert all(event["subject"] == "rules/late" for event in told)


def test_scheduler_process_sends_and_ends_in_order(world: World) -> None:
    with Receiver() as receiver:
        subscribe(world, receiver.url)
        run(world, good(world))
        with world.process("scheduler", "-m", "workers.main", "scheduler") as process:
            wait_until(lambda: all_ended(world), 20)
            assert process.stop(timeout=60) == 0

    assert receiver.types == ["transship.execution.succeeded"]
