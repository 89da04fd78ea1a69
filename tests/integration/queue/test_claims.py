"""Claims in a real Redis: one mover a blob, the dead give way, waiters are woken, loss is harmless."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from service.model.ports import ClaimState
from service.store.claims import CORRUPT_SECONDS, DONE_SECONDS, RedisClaims
from service.store.creation import made_at, new_id
from tests.support.processes import wait_until
from tests.support.servers import RedisServer
from tests.support.tcp_proxy import TcpProxy

DIGEST = "sha256:" + "a" * 64
PLACE = ("west", "user", DIGEST)
MINE, HELD, DONE, CORRUPT = (ClaimState(s) for s in ("mine", "held", "done", "corrupt"))


@pytest.fixture
def claims(client: redis.Redis) -> RedisClaims:
    made = RedisClaims(client)
    for boot in ("a", "b"):
        made.keep_alive(boot, 60)
    return made


def test_a_claim_is_held_against_others_and_kept_by_its_own(claims: RedisClaims) -> None:
    assert claims.claim(*PLACE, "a/1") == (MINE, "")
    assert claims.claim(*PLACE, "b/2") == (HELD, "a/1")
    assert claims.claim(*PLACE, "a/2") == (HELD, "a/1")
    assert claims.claim(*PLACE, "a/1") == (MINE, "")
    assert claims.moving(*PLACE)
    assert not claims.moving("west", "other", DIGEST)
    assert claims.claim("west", "other", DIGEST, "b/2") == (MINE, "")
    assert claims.claim("north", "user", DIGEST, "b/2") == (MINE, "")


def test_of_many_threads_one_gets_the_claim(claims: RedisClaims) -> None:
    with ThreadPoolExecutor(16) as pool:
        states = list(pool.map(lambda n: claims.claim(*PLACE, f"a/{n}")[0], range(16)))

    assert states.count(MINE) == 1
    assert states.count(HELD) == 15


def test_a_dead_owners_claim_is_taken_at_once(claims: RedisClaims) -> None:
    claims.claim(*PLACE, "a/1")
    claims.bury("a")

    assert not claims.moving(*PLACE)
    assert not claims.wait(*PLACE, 7)
    assert claims.claim(*PLACE, "b/2") == (MINE, "")
    assert claims.give_up(*PLACE, "a/1", corrupt=False) == []
    assert claims.claim(*PLACE, "a/3") == (HELD, "b/2")


def test_an_alive_key_lapses_by_itself(claims: RedisClaims, client: redis.Redis) -> None:
    claims.keep_alive("c", 9.25)
    assert 0 < client.pttl("transship:alive:c") <= 9250


def test_done_tells_where_and_wakes_all(claims: RedisClaims, client: redis.Redis) -> None:
    other = "sha256:" + "b" * 64
    claims.claim(*PLACE, "a/1")
    claims.claim("west", "user", other, "a/1")
    assert claims.wait(*PLACE, 7)
    assert claims.wait(*PLACE, 8)
    assert claims.wait("west", "user", other, 9)

    woken = claims.finish("west", "user", [DIGEST, other], "a/1", "mirror/app")

    assert sorted(woken) == [7, 8, 9]
    assert claims.claim(*PLACE, "b/2") == (DONE, "mirror/app")
    assert not claims.wait(*PLACE, 10)
    assert claims.finish("west", "user", [DIGEST], "a/1", "mirror/app") == []
    assert 0 < client.ttl(f"transship:done:west:user:{DIGEST}") <= DONE_SECONDS
    assert client.keys("transship:waiters:*") == []
    assert client.keys("transship:claim:*") == []


def test_finish_leaves_a_claim_that_was_taken_over(claims: RedisClaims) -> None:
    claims.claim(*PLACE, "a/1")
    claims.bury("a")
    claims.claim(*PLACE, "b/2")

    claims.finish("west", "user", [DIGEST], "a/1", "mirror/app")

    assert claims.moving(*PLACE)


def test_giving_up_promotes_exactly_one_waiter(claims: RedisClaims) -> None:
    claims.claim(*PLACE, "a/1")
    for copy in (7, 8, 9):
        claims.wait(*PLACE, copy)

    (leader,) = claims.give_up(*PLACE, "a/1", corrupt=False)

    assert leader in (7, 8, 9)
    assert claims.give_up(*PLACE, "a/1", corrupt=False) == []
    assert claims.claim(*PLACE, "b/2") == (MINE, "")
    woken = claims.finish("west", "user", [DIGEST], "b/2", "mirror/app")
    assert sorted([leader, *woken]) == [7, 8, 9]


def test_a_source_read_wrong_three_times_wakes_all_and_is_remembered(
    claims: RedisClaims, client: redis.Redis
) -> None:
    source = ("east", "team/app")
    claims.claim(*PLACE, "a/1", source=source)
    for copy in (7, 8, 9, 10):
        claims.wait(*PLACE, copy)

    (second,) = claims.give_up(*PLACE, "a/1", corrupt=True, source=source)
    assert claims.claim(*PLACE, "b/2", source=source) == (MINE, "")
    (third,) = claims.give_up(*PLACE, "b/2", corrupt=True, source=source)
    assert claims.claim(*PLACE, "c/3", source=source) == (MINE, "")
    rest = claims.give_up(*PLACE, "c/3", corrupt=True, source=source)

    assert sorted([second, third, *rest]) == [7, 8, 9, 10]
    assert claims.claim(*PLACE, "d/4", source=("east", "other")) == (CORRUPT, "")
    assert claims.claim(*PLACE, "d/4", source=("elsewhere", "team/app")) == (MINE, "")
    assert 0 < client.ttl(f"transship:corrupt:east:{DIGEST}") <= CORRUPT_SECONDS


def test_a_blob_missing_in_one_repository_is_still_taken_from_another(
    claims: RedisClaims,
) -> None:
    claims.claim(*PLACE, "a/1", source=("east", "holed"))
    claims.wait(*PLACE, 7)

    assert claims.give_up(*PLACE, "a/1", missing=True, source=("east", "holed")) == [7]

    assert claims.claim(*PLACE, "b/2", source=("east", "holed")) == (CORRUPT, "")
    assert claims.claim(*PLACE, "b/2", source=("east", "whole")) == (MINE, "")


def test_flushall_is_harmless(claims: RedisClaims, client: redis.Redis) -> None:
    epoch = claims.new_epoch()
    assert claims.new_epoch() == claims.epoch() == epoch
    claims.claim(*PLACE, "a/1")
    claims.wait(*PLACE, 7)

    client.flushall()
    client.script_flush()

    assert claims.epoch() == ""
    assert claims.new_epoch() not in ("", epoch)
    assert not claims.wait(*PLACE, 8)
    assert claims.claim(*PLACE, "b/2") == (MINE, "")
    client.script_flush()
    assert claims.finish("west", "user", [DIGEST], "a/1", "mirror/app") == []
    assert claims.claim(*PLACE, "a/3") == (DONE, "mirror/app")
    client.script_flush()
    assert claims.give_up(*PLACE, "a/1", corrupt=False) == []


def test_every_key_but_the_epoch_and_claims_lapses(
    claims: RedisClaims, client: redis.Redis
) -> None:
    """A claim hangs on its owner's alive key; all else is bounded in time, so in memory, too."""
    claims.new_epoch()
    claims.claim(*PLACE, "a/1")
    claims.wait(*PLACE, 7)
    claims.finish("west", "user", ["sha256:" + "c" * 64], "a/1", "mirror/app")
    claims.claim("west", "user", "sha256:" + "d" * 64, "a/1")
    claims.give_up("west", "user", "sha256:" + "d" * 64, "a/1", corrupt=True)

    eternal = sorted(key.decode() for key in client.keys("*") if client.ttl(key) == -1)

    assert eternal == [f"transship:claim:west:user:{DIGEST}", "transship:epoch"]


def test_a_claim_whose_answer_was_lost_is_let_go_with_the_next_sign_of_life() -> None:
    """Its owner lives and does not know of it: every other copy would wait for good (F095)."""
    with RedisServer(tcp=True) as server, TcpProxy(server.port) as way, server.client() as direct:
        cut_off = RedisClaims(redis.Redis(port=way.port, socket_timeout=2, retry=None))
        other = RedisClaims(direct)
        cut_off.keep_alive("a", 60)
        cut_off.claim("west", "", "sha256:0", "a/0")  # the script is loaded
        way.half_open()
        with pytest.raises(redis.TimeoutError):
            cut_off.claim("west", "", "sha256:1", "a/1")
        way.heal()
        other.keep_alive("b", 60)
        assert other.claim("west", "", "sha256:1", "b/1")[0] is ClaimState.HELD

        cut_off.keep_alive("a", 60)

        assert other.claim("west", "", "sha256:1", "b/1")[0] is ClaimState.MINE


def test_a_server_that_takes_over_from_another_has_another_epoch() -> None:
    """It has the other's keys, and may lack what was written last (F093)."""
    with (
        RedisServer(tcp=True) as first,
        RedisServer(tcp=True) as second,
        first.client() as before,
        second.client() as after,
    ):
        epoch = RedisClaims(before).new_epoch()
        after.replicaof("127.0.0.1", str(first.port))
        taken = RedisClaims(after)
        wait_until(lambda: taken.epoch() != "", 20, "the replica to have the keys")
        after.replicaof("NO", "ONE")

        assert RedisClaims(before).epoch() == epoch
        assert taken.epoch() not in ("", epoch)


def test_what_is_announced_is_waited_for_and_errands_take_it(
    claims: RedisClaims, client: redis.Redis
) -> None:
    claims.announce([PLACE[:2]], DIGEST, 30)

    assert claims.claim(*PLACE, "a/1") == (HELD, "")
    assert claims.moving(*PLACE)
    assert claims.state(*PLACE) is HELD
    assert claims.wait(*PLACE, 7)
    assert claims.claim("west", "other", DIGEST, "a/1") == (MINE, "")
    assert claims.claim(*PLACE, "b/2", ahead=True) == (MINE, "")
    assert claims.claim(*PLACE, "a/3", ahead=True) == (HELD, "b/2")
    claims.bury("b")
    assert not claims.moving(*PLACE), "who was to bring it is dead"
    claims.keep_alive("b", 60)
    assert claims.finish("west", "user", [DIGEST], "b/2", "app") == [7]
    assert claims.claim(*PLACE, "a/4") == (DONE, "app")


def test_an_announcement_lapses(claims: RedisClaims, client: redis.Redis) -> None:
    claims.announce([PLACE[:2]], DIGEST, 1.5)
    assert claims.claim(*PLACE, "b/1") == (HELD, "")

    wait_until(lambda: not claims.moving(*PLACE), 5, "the announcement's end")

    assert not claims.wait(*PLACE, 7)
    assert claims.claim(*PLACE, "b/1") == (MINE, "")


def test_an_announcement_is_withdrawn(claims: RedisClaims) -> None:
    claims.announce([PLACE[:2], ("north", "user")], DIGEST, 30)
    for copy in (7, 8, 9):
        assert claims.wait(*PLACE, copy)

    (leader,) = claims.withdraw(*PLACE, placed=False)

    assert leader in (7, 8, 9)
    assert claims.claim(*PLACE, "a/1") == (MINE, "")
    assert claims.claim("north", "user", DIGEST, "a/1") == (HELD, "")
    assert set(claims.withdraw(*PLACE, placed=True)) == {7, 8, 9} - {leader}


def test_who_asks_after_a_blob_was_found_bad_has_it_read_once_more(claims: RedisClaims) -> None:
    before = new_id()
    wait_until(lambda: made_at(new_id()) > made_at(before) + 0.05, 5, "the clock to go on")
    claims.claim(*PLACE, "a/1", source=("east", "holed"))
    claims.give_up(*PLACE, "a/1", missing=True, source=("east", "holed"))
    found = new_id()
    wait_until(lambda: made_at(new_id()) > made_at(found) + 0.05, 5, "the clock to go on")
    after = new_id()

    assert not claims.forgive(before, ("east", "holed"), DIGEST)
    assert claims.claim(*PLACE, "b/2", source=("east", "holed")) == (CORRUPT, "")
    assert claims.forgive(after, ("east", "holed"), DIGEST)
    assert claims.claim(*PLACE, "b/2", source=("east", "holed")) == (MINE, "")
    claims.give_up(*PLACE, "b/2", missing=True, source=("east", "holed"))
    assert not claims.forgive(after, ("east", "holed"), DIGEST), "once for each execution"
