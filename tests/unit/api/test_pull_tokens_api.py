"""/api/v1/pull-tokens: the text is shown once, and kept nowhere."""

from __future__ import annotations

import json

from service.bootstrap import Services
from service.model.pull_token import PullKeys
from tests.unit.api.conftest import Api


def test_a_token_is_made_listed_and_revoked(api: Api, services: Services) -> None:
    wanted = {"name": "cluster-1", "repositories": ["team/**"], "expires_in": "1h"}
    made = api.post("/api/v1/pull-tokens", wanted)
    assert made.status_code == 201
    body = made.json
    assert body is not None
    keyring = services.keyring
    assert keyring is not None
    grant = PullKeys(keyring.every).read(body["token"])
    assert grant is not None
    assert (grant.name, grant.repositories) == ("cluster-1", ("team/**",))
    assert grant.expires_at is not None

    taken = api.post("/api/v1/pull-tokens", wanted)
    assert taken.status_code == 409

    listed = api.get("/api/v1/pull-tokens").json
    assert listed is not None
    assert [(one["name"], one["revoked_at"]) for one in listed["items"]] == [("cluster-1", None)]
    assert "token" not in listed["items"][0]

    assert api.delete("/api/v1/pull-tokens/cluster-1").status_code == 204
    shown = api.get("/api/v1/pull-tokens/cluster-1").json
    assert shown is not None
    assert shown["revoked_at"]
    assert services.pull_tokens.revoked() == {grant.id}
    # the name is not given again: whoever reads the audit log means one token by it
    assert api.post("/api/v1/pull-tokens", wanted).status_code == 409
    assert api.delete("/api/v1/pull-tokens/none").status_code == 404

    audit = api.get("/api/v1/audit").json
    assert audit is not None
    told = [one for one in audit["items"] if one["kind"] == "pull-tokens"]
    assert {one["action"] for one in told} == {"create", "delete"}
    assert body["token"] not in json.dumps(audit)


def test_a_wrong_pattern_is_refused(api: Api) -> None:
    for repositories in ([], ["[a"], "team/**", [""]):
        wanted = {"name": "x", "repositories": repositories}
        assert api.post("/api/v1/pull-tokens", wanted).status_code == 400
