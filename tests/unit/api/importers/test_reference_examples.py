"""The examples of peers-cli.md section 2 as they stand there, key for key, with the rules that they become beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.importers.formats import Options
from service.errors import InvalidConfiguration
from tests.unit.api.importers.said import imported, lines, rules, told

IMAGE_TRANSFER_SECURITY = """\
ccr.ccs.tencentyun.com:
  username: "100000"
  password: xxx
  insecure: true
image-transfer.tencentcloudcr.com/team-a: {username: u, password: p}
"""
IMAGE_TRANSFER_RULES = """\
demo-ns/nginx:latest : image-transfer.tencentcloudcr.com/demo-ns/nginx:latest
reg.example.com/ns/app: tcr.example.com/ns/app
reg.example.com/ns/app:v1,v2: tcr.example.com/ns/app
reg.example.com/ns/other:
"""
IMAGE_TRANSFER_SECRET = """\
ccr: {secretId: a, secretKey: b}
tcr: {secretId: a, secretKey: b}
"""


def test_image_transfer(tmp_path: Path) -> None:
    options = Options(to="default.example")

    found = imported(
        tmp_path, "image-transfer", IMAGE_TRANSFER_SECURITY, IMAGE_TRANSFER_RULES, options=options
    )

    assert lines(found) == [
        "docker.io/demo-ns/nginx[latest] -> image-transfer.tencentcloudcr.com/demo-ns/nginx",
        "reg.example.com/ns/app[*] -> tcr.example.com/ns/app",
        "reg.example.com/ns/app[v1,v2] -> tcr.example.com/ns/app",
        "reg.example.com/ns/other[*] -> default.example/ns/other",
    ]
    assert found.whole
    destination = found.document["registries"][0]
    assert destination["credentials"] == [
        {
            "for": "team-a",
            "username": "u",
            "password_env": "TRANSSHIP_SECRET_IMAGE_TRANSFER_TENCENTCLOUDCR_COM_TEAM_A",
        }
    ]
    assert {"0.yaml:1 ccr.ccs.tencentyun.com", "0.yaml:1 ccr.ccs.tencentyun.com.insecure"} <= set(
        told(found, "look")
    )


def test_image_transfers_secrets_are_for_the_quick_mode(tmp_path: Path) -> None:
    options = Options(to="default.example")

    found = imported(
        tmp_path, "image-transfer", IMAGE_TRANSFER_RULES, IMAGE_TRANSFER_SECRET, options=options
    )

    (note,) = [one for one in found.notes if one.weight == "lost"]
    assert "transship migrate ccr-to-tcr" in note.text


IMAGE_SYNCER_AUTH = """\
quay.io:          {username: xxx, password: yyy, insecure: true}
quay.io/coreos:   {username: abc, password: zzz}
docker.io:        {username: "${HUB_USER}", password: "$HUB_PASS"}
gcr.io/proj:      {username: _oauth2_, password: eyJ0eXBlIjoic2VydmljZV9hY2NvdW50In0=}
"""
DIGEST = "sha256:14b267eb38aa85fd12d0e168fffa2d8a6187ac53a14a0212b0d4fce8d729598c"
IMAGE_SYNCER_IMAGES = f"""\
quay.io/coreos/kube-rbac-proxy: quay.io/ruohe/kube-rbac-proxy
quay.io/coreos/kube-rbac-proxy:v1.0: quay.io/ruohe/kube-rbac-proxy
quay.io/coreos/kube-rbac-proxy:v1.0,v2.0: quay.io/ruohe/krp:a,b
quay.io/coreos/kube-rbac-proxy@{DIGEST}: quay.io/ruohe/krp
quay.io/coreos/kube-rbac-proxy:v1.1: [quay.io/r/p1, quay.io/r/p2]
quay.io/coreos/kube-rbac-proxy:/^v1\\..*/: quay.io/ruohe/krp
"""


def test_image_syncer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six lines send some tags to several names of one registry: they are dealt out to four rules, in their order."""
    monkeypatch.setenv("HUB_USER", "crew")
    monkeypatch.setenv("HUB_PASS", "hub")

    found = imported(tmp_path, "image-syncer", IMAGE_SYNCER_AUTH, IMAGE_SYNCER_IMAGES)

    source = "quay.io/coreos/kube-rbac-proxy"
    assert lines(found) == [
        f"{source}[*] -> quay.io/ruohe/kube-rbac-proxy",
        f"{source}[v1.0] -> quay.io/ruohe/kube-rbac-proxy",
        f"{source}[v1.0] -> quay.io/ruohe/krp:a",
        f"{source}[v2.0] -> quay.io/ruohe/krp:b",
        f"{source}[{DIGEST}] -> quay.io/ruohe/krp",
        f"{source}[v1.1] -> quay.io/r/p1",
        f"{source}[v1.1] -> quay.io/r/p2",
        rf"{source}[regex=^v1\..*] -> quay.io/ruohe/krp",
    ]
    assert [len(rule["select"]) for rule in found.document["rules"]] == [2, 4, 1, 1]
    assert found.whole
    (quay,) = found.document["registries"]
    assert [one["username"] for one in quay["credentials"]] == ["abc", "xxx"]
    assert quay["tls"] == {"insecure": True}
    assert {"0.yaml:4 gcr.io/proj.username", "0.yaml:4 gcr.io"} <= set(told(found, "look"))


REGSYNC = """\
version: 1
creds:
  - registry: docker.io
    hostname: mirror.local:5000
    user: "{{env \\"HUB_USER\\"}}"
    pass: "{{file \\"/run/hub\\"}}"
    token: ""
    tls: enabled
    regcert: "PEM"
    repoAuth: true
    mirrors: [hubcache:5000]
    priority: 0
    pathPrefix: ""
    reqPerSec: 0
    reqConcurrent: 3
    blobChunk: 1048576
    blobMax: -1
    apiOpts: {disableHead: "true"}
defaults:
  interval: 60m
  schedule: "0 */6 * * *"
  ratelimit: {min: 100, retry: 15m}
  backup: "bkup-{{.Ref.Tag}}"
  digestTags: false
  referrers: false
  referrerFilters: [{artifactType: "", annotations: {}}]
  referrerSource: ""
  referrerSlow: false
  fastCheck: false
  forceRecursive: false
  includeExternal: false
  mediaTypes: [application/vnd.oci.image.manifest.v1+json]
  hooks: {pre: {type: "", params: []}}
  parallel: 0
  skipDockerConfig: false
  userAgent: ""
  cacheCount: 0
  cacheTime: 0
sync:
  - source: alpine
    target: registry:5000/library/alpine
    type: repository
    tags: {allow: ["3\\\\.\\\\d+"], deny: [], semverRange: [">=1.0.0 <2.0.0"]}
    tagSets: [ {allow: [a]}, {semverRange: [">=1"]} ]
    repos: {allow: [], deny: []}
    platforms: [linux/amd64, ""]
"""


def test_regsync(tmp_path: Path) -> None:
    found = imported(tmp_path, "regsync", REGSYNC)

    linux = "{'platforms': ['linux/amd64']}"
    to = "registry-5000/library/alpine"
    assert lines(found) == [
        rf"docker.io/library/alpine[regex=^3\.\d+$ semver=>=1.0.0 <2.0.0] -> {to} {linux}",
        f"docker.io/library/alpine[regex=^a$] -> {to} {linux}",
        f"docker.io/library/alpine[semver=>=1] -> {to} {linux}",
    ]
    assert rules(found, "trigger", "referrers") == [
        {"trigger": {"schedule": "0 */6 * * *"}, "referrers": False}
    ]
    hub = found.document["registries"][0]
    assert (hub["url"], hub["limits"]) == ("https://mirror.local:5000", {"concurrency": 3})
    lost = {note.rpartition(".")[2] for note in told(found, "lost")}
    assert lost == {"regcert", "mirrors", "user", "backup", "referrerFilters", "mediaTypes"}
    all_told = {
        note.split()[1] for weight in ("lost", "changed", "look") for note in told(found, weight)
    }
    for key in ("ratelimit", "hooks"):
        assert f"defaults.{key}" in all_told


def test_regsync_platform_alone_makes_another_digest(tmp_path: Path) -> None:
    text = REGSYNC.replace('    platforms: [linux/amd64, ""]\n', "    platform: linux/amd64\n")

    with pytest.raises(InvalidConfiguration, match="nothing is to be copied") as caught:
        imported(tmp_path, "regsync", text)

    assert "platform: linux/amd64" in caught.value.hint


SKOPEO = """\
registry.example.com:
  images:
    busybox: []
    redis: ["1.0", "sha256:0000000000000000000000000000000000000000000000000000000000000000"]
  images-by-tag-regex:
    nginx: ^1\\.13\\.[12]-alpine-perl$
  images-by-semver: {alpine: ">= 3.12.0"}
  credentials: {username: john, password: secret}
  tls-verify: true
  cert-dir: /home/john/certs
"""


def test_skopeo(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "skopeo", SKOPEO, options=Options(to="d.example", all_platforms=True)
    )

    digest = "sha256:" + "0" * 64
    assert lines(found) == [
        "registry.example.com/busybox[*] -> d.example/busybox",
        f"registry.example.com/redis[1.0,{digest}] -> d.example/redis",
        r"registry.example.com/nginx[regex=^1\.13\.[12]-alpine-perl$] -> d.example/nginx",
        "registry.example.com/alpine[semver=>= 3.12.0 exclude=*-*] -> d.example/alpine",
    ]
    assert found.document["registries"][0]["credentials"]["username"] == "john"
    assert told(found, "lost") == ["0.yaml:10 registry.example.com.cert-dir"]


HARBOR: dict[str, Any] = {
    "name": "to-tcr",
    "description": "",
    "src_registry": None,
    "dest_registry": {
        "id": 3,
        "name": "tcr",
        "type": "tencent-tcr",
        "url": "https://x.tencentcloudcr.com",
        "insecure": False,
        "ca_certificate": "PEM",
        "credential": {"type": "basic", "access_key": "u", "access_secret": "***"},
    },
    "dest_namespace": "mirror/a",
    "dest_namespace_replace_count": -1,
    "filters": [
        {"type": "name", "value": "library/**"},
        {"type": "tag", "value": "v*", "decoration": "matches"},
        {"type": "label", "value": ["prod"], "decoration": "excludes"},
        {"type": "resource", "value": "image"},
    ],
    "trigger": {"type": "scheduled", "trigger_settings": {"cron": "0 0 2 * * *"}},
    "replicate_deletion": False,
    "override": True,
    "enabled": True,
    "speed": -1,
    "copy_by_chunk": False,
    "single_active_replication": False,
}


def test_harbor(tmp_path: Path) -> None:
    """With its filter by label more would go than it says: it is left out; without it, it is carried over."""
    with pytest.raises(InvalidConfiguration, match="nothing is to be copied") as caught:
        imported(tmp_path, "harbor", json.dumps(HARBOR), options=Options(here="harbor.example"))
    assert "labels are Harbor's alone" in caught.value.hint

    plain = {**HARBOR, "filters": [one for one in HARBOR["filters"] if one["type"] != "label"]}
    found = imported(tmp_path, "harbor", json.dumps(plain), options=Options(here="harbor.example"))

    (rule,) = found.document["rules"]
    assert rule["trigger"]["schedule"] == "0 2 * * *"
    assert rule["destinations"] == [
        {"registry": "x.tencentcloudcr.com", "repository": "mirror/a/{name}"}
    ]
    assert lines(found) == [
        "harbor.example/include=library/**[include=v*] -> x.tencentcloudcr.com/mirror/a/{name} {'types': ['image']}"
    ]
    assert [note.rpartition(".")[2] for note in told(found, "lost")] == ["ca_certificate"]
