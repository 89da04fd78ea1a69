"""A gateway goes on without SQL and Redis: with what it knows, also when it is started while they are away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.auth import BearerAuth, TokenService
from api.samples.registry import SampleRegistry
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.pull_token import PullKeys
from service.settings import Settings
from service.store.keyring import KeyRing, write_new_key
from service.store.schema import create_or_upgrade
from service.stores import Stores
from tests.support.gateway import Gateway, running_gateway
from tests.support.images import push_image
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer, RedisServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def private() -> Iterator[SampleRegistry]:
    with SampleRegistry(auth=BearerAuth(TokenService({"puller": "s3cret"}))) as registry:
        yield registry


def test_known_digests_are_served_while_sql_and_redis_are_dead(
    private: SampleRegistry, tmp_path: Path
) -> None:
    digest = push_image(private, "team/app", "v1", layers=[b"layer" * 1000])
    with PostgresServer() as postgres, RedisServer() as redis:
        key_file = tmp_path / "keys"
        write_new_key(key_file)
        environment = {
            "TRANSSHIP_DATABASE_URL": postgres.fresh_database(),
            "TRANSSHIP_REDIS_URL": redis.url,
            "TRANSSHIP_SECRET_KEY_FILE": str(key_file),
            "TRANSSHIP_GATEWAY_CACHE_BYTES": "0",  # the blobs come from the registry
        }
        stores = Stores(Settings.from_env(environment))
        create_or_upgrade(stores.database)
        spec = CredentialSpec(username="puller", stored=True)
        stores.registries.put(
            RegistryEndpoint("private", private.url, credentials=spec),
            document={"name": "private", "url": private.url},
            secret="s3cret",
        )
        keys = PullKeys(KeyRing.from_file(key_file).every)
        token = keys.sign(stores.pull_tokens.create("t", ["team/**"], None).grant)
        gone = keys.sign(stores.pull_tokens.create("gone", ["team/**"], None).grant)
        stores.pull_tokens.revoke("gone")
        stores.database.close()
        config = {"names": [{"registry": "private"}]}
        with running_gateway(tmp_path, config, **environment) as gateway:
            gateway.token = token
            assert gateway.pull("team/app", "v1") == digest
            postgres.kill()
            redis.kill()
            for _ in range(5):
                assert gateway.pull("team/app", "v1") == digest
            # what it has not seen yet is had too, as long as the source answers
            fresh = push_image(private, "team/app", "v2")
            assert gateway.pull("team/app", "v2") == fresh
            assert gateway.get("/v2/", token=gone).status == 401
            wait_until(lambda: _store_away(gateway), 20, "the metric that tells of it")
        private.api.auth = BearerAuth(TokenService({"puller": "s3cret"}), f"{private.url}/token")
        with running_gateway(tmp_path, config, **environment) as again:
            again.token = token
            # with a login of its own: the registry's new token service knows none of the old tokens
            assert again.pull("team/app", "v1") == digest
            assert again.get("/v2/", token=gone).status == 401
            stored = (tmp_path / "gw.dir" / "known.db").read_bytes()
            assert b"s3cret" not in stored
            assert b"s3cret" not in again.process.stderr_path.read_bytes()
            assert token.encode() not in stored + again.process.stderr_path.read_bytes()
            push_image(private, "team/app", "v3")
            private.fault("", status=503, times=10_000)
            assert again.get("/v2/team/app/manifests/v3").status == 503
            answer = again.get("/v2/team/app/manifests/v1")
            assert json.loads(answer.body)["layers"]


def _store_away(gateway: Gateway) -> bool:
    return gateway.metrics()["transship_gateway_store_away"] == 1.0
