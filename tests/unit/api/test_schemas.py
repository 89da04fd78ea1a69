"""Documents of registries and rules: what is read, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.registry import effective_registry, load_registry, written_registry
from api.schemas.rule import effective_rule, load_rule
from service.errors import InvalidFields
from service.model.endpoint import CredentialSpec, Limits, RegistryEndpoint, TLSOptions
from service.model.rule import Destination, NameFilter, Newest, Selection, SyncRule, Trigger

REGISTRY: dict[str, Any] = {"name": "east", "url": "https://registry.east.example"}
RULE: dict[str, Any] = {
    "name": "fleet",
    "source": "east",
    "select": [{"repositories": ["team*/**"]}],
    "destinations": [{"registry": "west"}],
}


def problems_of(load: Any, document: Any, **kwargs: Any) -> dict[str, str]:
    with pytest.raises(InvalidFields) as caught:
        load(document, **kwargs)
    return {
        problem.path: f"{problem.message} | {problem.hint}" for problem in caught.value.problems
    }


def test_whole_registry_is_read() -> None:
    loaded = load_registry(
        {
            **REGISTRY,
            "provider": "distribution",
            "region": "us-east",
            "groups": ["prod", "prod"],
            "credentials": {"username": "u", "password_env": "TRANSSHIP_SECRET_EAST"},
            "tls": {"ca_file": "/x.pem"},
            "trusted_hosts": ["Auth.east.example:8443"],
            "limits": {"concurrency": 8},
        }
    )

    assert loaded.endpoint == RegistryEndpoint(
        name="east",
        url="https://registry.east.example",
        provider="distribution",
        region="us-east",
        groups=("prod",),
        credentials=CredentialSpec(username="u", password_env="TRANSSHIP_SECRET_EAST"),
        tls=TLSOptions(ca_file="/x.pem"),
        trusted_hosts=("auth.east.example:8443",),
        limits=Limits(concurrency=8),
    )
    assert loaded.password is None


def test_password_is_taken_out_of_the_document() -> None:
    document = {**REGISTRY, "credentials": {"username": "u", "password": "s3cret:@/%"}}

    loaded = load_registry(document)

    assert loaded.password == "s3cret:@/%"
    assert loaded.endpoint.credentials == CredentialSpec(username="u", stored=True)
    assert "s3cret" not in repr(loaded)
    assert written_registry(document)["credentials"] == {"username": "u"}


def test_password_as_the_api_shows_it_means_the_stored_one() -> None:
    loaded = load_registry(
        {**REGISTRY, "credentials": {"username": "u", "password": {"set": True, "version": 3}}}
    )

    assert loaded.keep_password
    assert loaded.password is None
    assert loaded.endpoint.credentials.stored


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"url": "registry.example"}, "url", "https://"),
        ({"url": "ftp://registry.example"}, "url", "https://"),
        ({"url": "https://u:p@registry.example"}, "url", "credentials of the registry"),
        ({"url": "https://registry.example/v2/"}, "url", "no path"),
        ({"url": "https://registry.example:0"}, "url", "port"),
        ({"url": "https://registry.example:65536"}, "url", "port"),
        ({"url": "https://[::1"}, "url", "not a URL"),
        ({"url": "https://"}, "url", "host"),
        ({"url": "https://bücher.example"}, "url", "host"),
        ({"url": "https://a.example?x=1"}, "url", "query"),
        ({"url": "oci:tmp/x"}, "url", "no absolute path"),
        ({"url": "oci:/"}, "url", "a directory of its own"),
        ({"url": "oci:/a/../b"}, "url", "no .."),
        ({"url": "oci:/a", "provider": "harbor"}, "provider", "not with oci:/path"),
        ({"url": "oci:/a", "tls": {"insecure": True}}, "tls", "not with oci:/path"),
        ({"url": "oci:/a", "credentials": {"docker_config": True}}, "credentials", "not with oci"),
        ({"api_url": "oci:/a"}, "api_url", "no address"),
        ({"url": ""}, "url", "may not be empty"),
        ({"url": None}, "url", "may not be null"),
        ({"url": 5}, "url", "must be a text, not a number"),
        ({"name": "East"}, "name", "is not a name"),
        ({"name": "a" * 64}, "name", "is not a name"),
        ({"name": "a\x00b"}, "name", "character"),
        ({"name": "a\u202eb"}, "name", "character"),
        ({"name": "a\ud800"}, "name", "character"),
        ({"provider": "harbour"}, "provider", "harbor"),
        (
            {"capabilities": {"chunk_bytes": 1, "chunk_minimum_bytes": 2}},
            "capabilities",
            "chunk_minimum_bytes is above",
        ),
        ({"urll": "x"}, "urll", "did you mean 'url'?"),
        ({"id": 1}, "id", "unknown key"),
        ({"proxy": "https://p.example:3128"}, "proxy", "spoken to by http://"),
        ({"proxy": "http://u:p@p.example"}, "proxy", "password is not supported"),
        ({"proxy": "http://p.example/x"}, "proxy", "no path"),
        ({"proxy": "p.example:3128"}, "proxy", "not a proxy"),
        ({"endpoints": []}, "endpoints", "must be an object of regions"),
        ({"groups": "prod"}, "groups", "must be a list, not a text"),
        ({"groups": ["prod", 5]}, "groups[1]", "must be a text"),
        ({"limits": {"concurrency": 0}}, "limits.concurrency", "between 1 and 10000"),
        ({"limits": {"concurrency": True}}, "limits.concurrency", "whole number"),
        ({"limits": {"concurrency": 1.0}}, "limits.concurrency", "whole number"),
        ({"limits": {"concurrency": "8"}}, "limits.concurrency", "whole number"),
        ({"limits": 5}, "limits", "object"),
        ({"tls": {"insecure": "true"}}, "tls.insecure", "true or false"),
        ({"tls": {"client_cert_file": "/c"}}, "tls", "go together"),
        ({"tls": {"ca_file": "/c", "insecure": True}}, "tls", "exclude"),
        ({"url": "http://a.example", "tls": {"ca_file": "/c"}}, "tls", "https"),
        ({"trusted_hosts": ["https://x"]}, "trusted_hosts[0]", "host"),
        ({"credentials": {"username": "u"}}, "credentials", "no password"),
        (
            {"credentials": {"username": "u", "password_env": "HOME"}},
            "credentials.password_env",
            "TRANSSHIP_SECRET_",
        ),
        (
            {"credentials": {"password_env": "TRANSSHIP_SECRET_A"}},
            "credentials.username",
            "missing",
        ),
        (
            {"credentials": {"username": "u", "password": "x", "password_file": "/f"}},
            "credentials",
            "password and password_file",
        ),
        ({"credentials": {"username": "u", "password": "****"}}, "credentials.password", "mask"),
        ({"credentials": {"username": "u", "password": "a\nb"}}, "credentials.password", "char"),
        (
            {"credentials": {"keyless": "ibm"}},
            "credentials.keyless",
            "aliyun, aws, azure, gcp, volcengine",
        ),
        (
            {"credentials": {"keyless": "aws", "username": "u"}},
            "credentials.username",
            "does not go with keyless",
        ),
        (
            {"credentials": {"keyless": "aws", "docker_config": True}},
            "credentials",
            "docker_config and keyless",
        ),
        ({"credentials": {"username": "u", "docker_config": True}}, "credentials.username", ""),
    ],
)
def test_bad_registry_names_the_field(change: dict[str, Any], path: str, words: str) -> None:
    told = problems_of(load_registry, {**REGISTRY, **change})

    assert list(told) == [path]
    assert words in told[path]


def test_file_may_hold_no_password() -> None:
    document = {**REGISTRY, "credentials": {"username": "u", "password": "x"}}

    told = problems_of(load_registry, document, in_file=True)

    assert "password_env" in told["credentials.password"]


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_what_is_no_object_is_refused(document: Any) -> None:
    assert "must be an object" in problems_of(load_registry, document)[""]
    assert "must be an object" in problems_of(load_rule, document)[""]


def test_effective_registry_reads_back_as_itself() -> None:
    endpoint = load_registry({**REGISTRY, "groups": ["a"]}).endpoint

    effective = effective_registry(endpoint)
    assert effective_registry(load_registry(effective).endpoint) == effective


def test_whole_rule_is_read() -> None:
    rule = load_rule(
        {
            **RULE,
            "enabled": False,
            "select": [
                {
                    "repositories": {"include": ["a/*"], "exclude": ["a/x"]},
                    "tags": {
                        "include": ["v*", "sha256:" + "0" * 64],
                        "regex": "^v",
                        "semver": ">=1.2 <3",
                        "newest": {"count": 10, "by": "created"},
                    },
                    "types": ["image", "application/vnd.example+json"],
                    "to": {"repository": "other/{name}", "tag": "{tag}"},
                }
            ],
            "destinations": [
                {"registry": "west", "repository": "mirror/{repository[1:]}"},
                {"group": "prod"},
            ],
            "trigger": {"every": "30s"},
            "referrers": False,
            "on_empty": "fail",
            "priority": "urgent",
        }
    )

    assert rule == SyncRule(
        name="fleet",
        source="east",
        select=(
            Selection(
                NameFilter(("a/*",), ("a/x",)),
                NameFilter(
                    ("v*", "sha256:" + "0" * 64),
                    regex="^v",
                    semver=">=1.2 <3",
                    newest=Newest(10, "created"),
                ),
                types=("image", "application/vnd.example+json"),
                to_repository="other/{name}",
                to_tag="{tag}",
            ),
        ),
        destinations=(
            Destination(registry="west", repository="mirror/{repository[1:]}"),
            Destination(group="prod"),
        ),
        enabled=False,
        trigger=Trigger(30.0),
        referrers=False,
        on_empty="fail",
        priority="urgent",
    )
    assert load_rule(effective_rule(rule)) == rule


def test_defaults_lie_beneath_the_rule() -> None:
    defaults = {"priority": "bulk", "referrers": False}

    rule = load_rule({**RULE, "priority": "urgent"}, defaults)

    assert (rule.priority, rule.referrers) == ("urgent", False)


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"select": []}, "select", "may not be empty"),
        ({"select": [{}]}, "select[0].repositories", "is missing"),
        ({"select": [{"repositories": []}]}, "select[0].repositories", "may not be empty"),
        ({"select": [{"repositories": {}}]}, "select[0].repositories", "names nothing"),
        ({"select": [{"repositories": "a"}]}, "select[0].repositories", "list of globs"),
        ({"select": [{"repositories": ["a", "["]}]}, "select[0].repositories[1]", "unmatched '['"),
        ({"select": [{"repositories": [""]}]}, "select[0].repositories[0]", "empty"),
        (
            {"select": [{"repositories": {"include": ["a"], "exclude": ["a"]}}]},
            "select[0].repositories",
            "excludes all",
        ),
        (
            {"select": [{"repositories": {"includ": ["a"], "exclude": ["b"]}}]},
            "select[0].repositories.includ",
            "did you mean 'include'?",
        ),
        (
            {"select": [{"repositories": {"regex": "(a)\\1"}}]},
            "select[0].repositories.regex",
            "RE2",
        ),
        (
            {"select": [{"repositories": {"semver": ">=1"}}]},
            "select[0].repositories.semver",
            "condition of tags",
        ),
        (
            {"select": [{"repositories": ["a"], "tags": {"semver": ">=1.2 <"}}]},
            "select[0].tags.semver",
            "no version at character 8",
        ),
        (
            {"select": [{"repositories": ["a"], "tags": ["sha256:ABC"]}]},
            "select[0].tags[0]",
            "digest",
        ),
        (
            {"select": [{"repositories": ["a"], "tags": [1.1]}]},
            "select[0].tags[0]",
            "write it in quotes",
        ),
        ({"select": [{"repositories": ["a"], "types": ["img"]}]}, "select[0].types[0]", "no type"),
        (
            {"select": [{"repositories": ["a"], "tags": {"newest": {"count": 0}}}]},
            "select[0].tags.newest.count",
            "between 1",
        ),
        (
            {"select": [{"repositories": ["a"], "tags": {"newest": {"by": "semver"}}}]},
            "select[0].tags.newest.count",
            "is missing",
        ),
        ({"select": [{"repositories": ["a"], "to": {"tag": "{x}"}}]}, "select[0].to.tag", "{x}"),
        ({"destinations": []}, "destinations", "may not be empty"),
        ({"destinations": [{}]}, "destinations[0]", "registry or a group"),
        ({"destinations": [{"registry": "a", "group": "b"}]}, "destinations[0]", "not both"),
        (
            {"destinations": [{"registry": "a", "repository": "{repo}"}]},
            "destinations[0].repository",
            "unknown placeholder",
        ),
        ({"trigger": {"every": "30"}}, "trigger.every", "is not a duration"),
        ({"trigger": {"every": "1ms"}}, "trigger.every", "between 1"),
        ({"trigger": {"every": 30}}, "trigger.every", "must be a text"),
        ({"trigger": {"schedule": "* * * * * *"}}, "trigger.schedule", "five fields"),
        ({"trigger": {"schedule": "0 0 31 2 *"}}, "trigger.schedule", "not a schedule"),
        ({"trigger": {"schedule": "60 * * * *"}}, "trigger.schedule", "not a schedule"),
        (
            {"trigger": {"schedule": "0 3 * * *", "timezone": "Mars/X"}},
            "trigger.timezone",
            "not a time zone",
        ),
        ({"trigger": {"missed": "once"}}, "trigger", "no schedule"),
        (
            {"trigger": {"schedule": "0 3 * * *", "missed": "all"}},
            "trigger.missed",
            "not one of once, skip",
        ),
        ({"trigger": {"event": "yes"}}, "trigger.event", "true or false"),
        ({"on_conflict": "ignore"}, "on_conflict", "not one of overwrite, keep, fail"),
        ({"deadline": "0s"}, "deadline", "between"),
        ({"priority": "high"}, "priority", "urgent, normal, bulk"),
        ({"project": "Team A"}, "project", "is not a name"),
        ({"delete": {"grace": "24h"}}, "delete.enabled", "is missing"),
        ({"delete": {"enabled": True, "cap": "10"}}, "delete.cap", "not a share"),
        ({"delete": {"enabled": True, "cap": "101%"}}, "delete.cap", "not a share"),
        ({"delete": {"enabled": True, "grace": "1y"}}, "delete.grace", "not a duration"),
        (
            {"delete": {"enabled": True}, "select": [{"repositories": ["**"]}]},
            "delete",
            "every repository",
        ),
        (
            {"delete": {"enabled": True}, "select": [{"repositories": {"exclude": ["a"]}}]},
            "delete",
            "every repository",
        ),
        ({"mode": "mirror"}, "mode", "not one of sync, replicate"),
        (
            {"mode": "replicate", "delete": {"enabled": False}},
            "select",
            "takes the whole instance",
        ),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"destination": []}, "destination", "did you mean 'destinations'?"),
    ],
)
def test_bad_rule_names_the_field(change: dict[str, Any], path: str, words: str) -> None:
    told = problems_of(load_rule, {**RULE, **change})

    assert list(told) == [path]
    assert words in told[path]


def test_all_problems_are_told_at_once() -> None:
    told = problems_of(load_rule, {"name": "X", "select": 5, "extra": 1})

    assert set(told) == {"name", "source", "select", "destinations", "extra"}
