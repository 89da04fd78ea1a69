"""What the fleet remembers of registries, in a real Redis and without one."""

from __future__ import annotations

from service.store.reputation import RedisReputation
from tests.support.servers import RedisServer


def test_what_one_process_has_seen_the_others_know() -> None:
    with RedisServer() as server, server.client() as one, server.client() as two:
        seeing, asking = RedisReputation(lambda: one), RedisReputation(lambda: two)
        seeing.accepted("east", push=False)
        assert asking.was_accepted("east", push=False)
        assert not asking.was_accepted("east", push=True)
        assert not asking.was_accepted("west", push=False)


def test_without_redis_nothing_is_known_and_nothing_fails() -> None:
    with RedisServer() as server, server.client() as client:
        reputation = RedisReputation(lambda: client)
        reputation.accepted("east", push=True)
        server.kill()
        assert not reputation.was_accepted("east", push=True)
