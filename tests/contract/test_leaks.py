"""contract:leaks. The check that no credential reaches another host finds those that do."""

from __future__ import annotations

import base64
import http.client
from urllib.parse import quote

import pytest

from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from tests.contract.leaks import Watch, secrets_of
from tests.contract.stands import STANDS, stand
from tests.integration.registry.support import push

PASSWORD = "dckr_pat_s3cret"
BASIC = base64.b64encode(f"crew:{PASSWORD}".encode()).decode()


def ignore(request: Request) -> Response:
    request.body.read(1 << 16)
    return Response(200)


def ask(
    server: HttpServer, path: str = "/", body: str = "", headers: dict[str, str] | None = None
) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request("POST", path, body=body, headers=headers or {})
    connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/", "", {"Authorization": f"Basic {BASIC}"}),
        (f"/?password={PASSWORD}", "", {}),
        (f"/?auth={quote(BASIC, safe='')}", "", {}),
        ("/", f'{{"secret": "{PASSWORD}"}}', {}),
        ("/", "", {"X-Auth": base64.b64encode(PASSWORD.encode()).decode()}),
    ],
    ids=["basic", "query", "encoded", "body", "base64"],
)
def test_password_at_another_host_is_found(
    watch: Watch, path: str, body: str, headers: dict[str, str]
) -> None:
    other = HttpServer(ignore)
    other.start()
    with stand("dockerhub"):
        assert watch.leaks() == []

        ask(other, path, body, headers)

        assert watch.leaks() == [f"{other.authority} was asked POST / with a secret"]
    other.close()
    watch.forget()


def test_token_of_the_registry_at_its_own_blob_host_is_found(watch: Watch) -> None:
    with stand("acr") as made:
        push(made.client(), "team/app", "v1", b"one")
        assert watch.leaks() == []
        (auth,) = {
            one.headers["authorization"]
            for one in made.registry.log
            if "authorization" in one.headers and one.path.startswith("/v2/team/app/manifests")
        }
        connection = http.client.HTTPConnection(made.registry.cdn_host, timeout=10)
        connection.request("GET", "/team/app/x", headers={"Authorization": auth})
        connection.getresponse().read()
        connection.close()

        assert len(watch.leaks()) == 1
    watch.forget()


@pytest.mark.parametrize("provider", STANDS)
def test_every_fake_tells_the_secret_that_it_was_given(provider: str, watch: Watch) -> None:
    with stand(provider) as made:
        told = [one.text for one in secrets_of(made.registry)]

        assert any(text in made.credential.password for text in told)
        assert made.registry in watch.fakes
