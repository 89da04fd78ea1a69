"""contract:quirks. Traps of reads, lists, referrers, errors and tokens: shown at a naive client where it falls into them."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest

from api.samples.registry import BearerAuth, SampleRegistry, WireFault
from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import UploadSession
from tests.contract.quirks import MIB, USERS
from tests.integration.registry.support import Pauses, blob, client, image, push

NAME = "a/b"
USER = Credential("u", USERS["u"])
KIND = "application/vnd.oci.image.manifest.v1+json"


def planted(registry: SampleRegistry, size: int = 1000) -> tuple[bytes, Digest]:
    """Put a blob past HTTP."""
    data, descriptor = blob(size)
    registry.storage.put_blob(NAME, str(descriptor.digest), data)
    return data, descriptor.digest


def tagged(registry: SampleRegistry, *tags: str) -> None:
    """Have these tags on one image, put past HTTP."""
    with SampleRegistry() as strict:
        made = client(strict.url)
        push(made, NAME, "v0", b"one")
        found = strict.storage.manifest(NAME, "v0")
        made.close()
    assert found is not None
    for tag in tags:
        registry.storage.put_manifest(NAME, found, tag, None)


def tags_of(ours: RegistryClient) -> list[str]:
    return [tag for page in ours.list_tags(NAME) for tag in page.tags]


# ---- manifests and blobs ----------------------------------------------------------------------------


def test_quirk_head_without_digest(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    pushed = push(ours, NAME, "v1", b"one")
    assert "docker-content-digest" not in naive.head(f"/v2/{NAME}/manifests/v1").headers

    head = ours.head_manifest(NAME, "v1")
    assert head is not None
    assert head.digest == pushed.digest


def test_quirk_head_405(ours: RegistryClient, naive: httpx.Client) -> None:
    pushed = push(ours, NAME, "v1", b"one")
    assert naive.head(f"/v2/{NAME}/manifests/v1").is_error

    head = ours.head_manifest(NAME, "v1")
    assert head is not None
    assert head.digest == pushed.digest


def test_quirk_accept_404(ours: RegistryClient, naive: httpx.Client) -> None:
    pushed = push(ours, NAME, "v1", b"one")
    assert naive.get(f"/v2/{NAME}/manifests/v1").status_code == 404
    assert naive.head(f"/v2/{NAME}/manifests/v1").status_code == 404

    assert ours.get_manifest(NAME, "v1").digest == pushed.digest
    assert ours.head_manifest(NAME, "v1") is not None


def test_quirk_charset(ours: RegistryClient, naive: httpx.Client) -> None:
    push(ours, NAME, "v1", b"one")
    answer = naive.get(f"/v2/{NAME}/manifests/v1", headers={"Accept": KIND})
    assert answer.headers["content-type"] != KIND

    assert ours.get_manifest(NAME, "v1").media_type == KIND


def test_quirk_other_media_type(ours: RegistryClient, naive: httpx.Client) -> None:
    push(ours, NAME, "v1", b"one")
    assert naive.get(f"/v2/{NAME}/manifests/v1", headers={"Accept": KIND}).is_success

    with pytest.raises(errors.InvalidManifest):
        ours.get_manifest(NAME, "v1")


def copied_whole(registry: SampleRegistry, ours: RegistryClient, size: int = 3 * MIB) -> bool:
    """Copy a blob out of the quirky registry into a strict one; whether it is the same there."""
    data, descriptor = blob(size)
    registry.storage.put_blob(NAME, str(descriptor.digest), data)
    with SampleRegistry() as strict:
        destination = client(strict.url, name="destination")
        copy_blob(ours, NAME, destination, "c/d", descriptor)
        destination.close()
        return strict.storage.blob_bytes(str(descriptor.digest)) == data


def cut_then(registry: SampleRegistry, **second: object) -> None:
    """Have a read break off, and the next one answered like this."""
    registry.fault("/blobs/sha256", method="GET", wire=WireFault(reset_at=MIB))
    registry.fault("/blobs/sha256", method="GET", **second)


def test_quirk_range_ignored(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, digest = planted(registry, 3 * MIB)
    whole = {"status": 200, "body": data}
    registry.fault("/blobs/sha256", method="GET", **whole)
    rest = naive.get(f"/v2/{NAME}/blobs/{digest}", headers={"Range": f"bytes={MIB}-"}).content
    assert data[:MIB] + rest != data

    cut_then(registry, **whole)
    assert copied_whole(registry, ours)


def test_quirk_range_without_content_range(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, digest = planted(registry, 3 * MIB)
    wrong = {"status": 206, "body": data[: 2 * MIB]}  # not the rest that was asked for
    registry.fault("/blobs/sha256", method="GET", **wrong)
    rest = naive.get(f"/v2/{NAME}/blobs/{digest}", headers={"Range": f"bytes={MIB}-"}).content
    assert data[:MIB] + rest != data

    cut_then(registry, **wrong)
    assert copied_whole(registry, ours)


def test_quirk_longer_416(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    _, digest = planted(registry)
    with pytest.raises(httpx.HTTPError):
        naive.get(f"/v2/{NAME}/blobs/{digest}", timeout=0.2)
    begun = time.monotonic()

    assert ours.probe_blob(NAME, digest, 1000) is False

    assert time.monotonic() - begun < ours.timeouts.read_seconds, "the body never comes"


def test_quirk_packed_blob(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, digest = planted(registry)
    with naive.stream("GET", f"/v2/{NAME}/blobs/{digest}") as answer:
        assert b"".join(answer.iter_raw()) != data

    assert ours.read_blob(NAME, digest, 1000, 1000) == data


def test_quirk_redirected_blob(registry: SampleRegistry, naive: httpx.Client) -> None:
    data, digest = planted(registry)
    ours = client(registry.url, credential=USER)
    place = f"http://{registry.cdn_host}/{NAME}/{digest}?X-Amz-Signature=0"
    assert naive.get(place, headers={"Authorization": "Bearer x"}).status_code == 400

    assert ours.read_blob(NAME, digest, 1000, 1000) == data
    ours.close()
    assert not [one for one in registry.cdn_log[1:] if "authorization" in one.headers]


def test_quirk_signed_url_ended(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    _, digest = planted(registry)
    registry.fault("X-Amz-Signature", status=403)
    assert naive.get(f"/v2/{NAME}/blobs/{digest}", follow_redirects=True).status_code == 403

    registry.fault("X-Amz-Signature", status=403)
    assert copied_whole(registry, ours)
    asked = [one for one in registry.log if one.path.endswith(str(digest))]
    assert asked


def test_quirk_html_blob(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    _, digest = planted(registry)
    assert naive.get(f"/v2/{NAME}/blobs/{digest}").is_success

    with pytest.raises((errors.Corrupt, errors.ProtocolError, errors.NetworkError)):
        ours.read_blob(NAME, digest, 1000, 1000)


# ---- lists ------------------------------------------------------------------------------------------


def naive_tags(naive: httpx.Client, most: int = 5) -> list[str]:
    """Follow whatever Link says, in the quoted form only, for a few pages; else go on behind a full page."""
    found: list[str] = []
    target: str | None = f"/v2/{NAME}/tags/list?n=2"
    for _ in range(most):
        answer = naive.get(target)
        names = list(answer.json()["tags"])
        found += names
        link = answer.headers.get("link", "")
        if link.endswith('rel="next"'):
            target = link.partition("<")[2].partition(">")[0]
        elif len(names) >= 2:
            target = f"/v2/{NAME}/tags/list?n=2&last={names[-1]}"
        else:
            return found
    return found


def test_quirk_tags_null(ours: RegistryClient, naive: httpx.Client) -> None:
    with pytest.raises(TypeError):
        naive_tags(naive)

    assert tags_of(ours) == []


def test_quirk_pages_ignored(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v3", "v1", "v2")
    assert naive_tags(naive) == ["v3", "v1", "v2"] * 5, "round and round"

    assert tags_of(ours) == ["v3", "v1", "v2"]


def test_quirk_empty_last_page(registry: SampleRegistry, ours: RegistryClient) -> None:
    tagged(registry, "v1", "v2")

    assert [page.tags for page in ours.list_tags(NAME)] == [("v1", "v2"), ()]


def test_quirk_opaque_pages(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v1")
    behind = naive.get(f"/v2/{NAME}/tags/list?n=1&last=v1").json()["tags"]
    assert behind == ["v1"], "going on behind the last one shows it again"

    assert tags_of(ours) == ["v1", "v2"]


def test_quirk_unquoted_links(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v1")
    assert naive_tags(naive) == ["v1"]

    assert tags_of(ours) == ["v1", "v2"]


def test_quirk_link_circle(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v1")
    assert naive_tags(naive) == ["v1"] * 5

    with pytest.raises(errors.ProtocolError, match="circle"):
        tags_of(ours)


def test_quirk_link_elsewhere(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v1")
    assert naive.get(f"/v2/{NAME}/tags/list").links["next"]["url"].startswith("http://evil")

    with pytest.raises(errors.RegistryError):
        tags_of(ours)
    assert [one.path for one in registry.log if "evil" in one.path] == []


def test_quirk_catalog_limit(ours: RegistryClient, naive: httpx.Client) -> None:
    push(ours, NAME, "v1", b"one")
    assert naive.get("/v2/_catalog?n=5000").status_code == 400

    assert [page.repositories for page in ours.list_repositories()] == [(NAME,)]


def test_quirk_catalog_missing(ours: RegistryClient, naive: httpx.Client) -> None:
    with pytest.raises(json.JSONDecodeError):
        naive.get("/v2/_catalog").json()

    with pytest.raises(errors.Unsupported, match="no catalog"):
        list(ours.list_repositories())


def test_quirk_tag_delete_400(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    tagged(registry, "v1", "v2")
    digest = (registry.storage.tags(NAME) or {})["v1"]

    with pytest.raises(errors.Unsupported):
        ours.delete_manifest(NAME, "v1")

    assert set(registry.storage.tags(NAME) or {}) == {"v1", "v2"}
    assert naive.delete(f"/v2/{NAME}/manifests/{digest}").is_success
    assert not registry.storage.tags(NAME), "who deletes by the digest instead loses both"


# ---- referrers --------------------------------------------------------------------------------------


def has_no_referrers_api(ours: RegistryClient, naive: httpx.Client) -> None:
    digest = push(ours, NAME, "v1", b"one").digest
    answer = naive.get(f"/v2/{NAME}/referrers/{digest}")
    with pytest.raises((json.JSONDecodeError, KeyError)):
        answer.json()["manifests"]

    assert ours.referrers(NAME, digest) is None


def test_quirk_referrers_404(ours: RegistryClient, naive: httpx.Client) -> None:
    has_no_referrers_api(ours, naive)


def test_quirk_referrers_303(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    has_no_referrers_api(ours, naive)  # a client that follows asks evil.example, which is not there


def test_quirk_referrers_400(ours: RegistryClient, naive: httpx.Client) -> None:
    has_no_referrers_api(ours, naive)


def test_quirk_referrers_html(ours: RegistryClient, naive: httpx.Client) -> None:
    has_no_referrers_api(ours, naive)


def test_quirk_no_oci_subject(ours: RegistryClient) -> None:
    pushed = push(ours, NAME, "v1", b"one")
    subject = {"mediaType": pushed.media_type, "digest": str(pushed.digest), "size": pushed.size}
    signature, (config, described) = image(subject=subject)
    ours.put_blob(NAME, described.digest, config)

    result = ours.put_manifest(NAME, str(signature.digest), signature)

    assert result.subject_stored is False, "so its fallback tag is for the client to write"


# ---- errors -----------------------------------------------------------------------------------------


def test_quirk_empty_error(registry: SampleRegistry, ours: RegistryClient) -> None:
    push(ours, NAME, "v1", b"one")

    assert [one.status for one in registry.log if "/manifests/" in one.path] == [500, 201]


def test_quirk_html_error(registry: SampleRegistry, ours: RegistryClient) -> None:
    push(ours, NAME, "v1", b"one")

    assert [one.status for one in registry.log if "/manifests/" in one.path] == [502, 201]


def waits(registry: SampleRegistry, least: float, most: float) -> None:
    """Our client comes again after so many seconds."""
    pauses = Pauses()
    ours = client(registry.url, sleep=pauses)
    push(ours, NAME, "v1", b"one")
    ours.close()
    (seconds,) = pauses.seconds
    assert least <= seconds <= most


def test_quirk_retry_after_date(registry: SampleRegistry) -> None:
    (rule,) = registry.faults._rules
    with pytest.raises(ValueError, match="invalid literal"):
        int(str(rule.headers["Retry-After"]))

    waits(registry, 0.1, 2.5)


def test_quirk_bare_429(registry: SampleRegistry) -> None:
    waits(registry, 0.05, 2.5)


# ---- tokens -----------------------------------------------------------------------------------------


def token_for(
    naive: httpx.Client, scope: str = f"repository:{NAME}:pull,push"
) -> dict[str, object]:
    """What the token service answers."""
    basic = base64.b64encode(b"u:s3cret").decode()
    query = {"service": "sample-registry", "scope": scope}
    answer = naive.get("/token", params=query, headers={"Authorization": f"Basic {basic}"})
    found: dict[str, object] = answer.json()
    return found


def pushes(registry: SampleRegistry) -> None:
    ours = client(registry.url, credential=USER)
    push(ours, NAME, "v1", b"one")
    push(ours, NAME, "v2", b"two")
    ours.close()
    assert set(registry.storage.tags(NAME) or ()) == {"v1", "v2"}


def test_quirk_access_token_only(registry: SampleRegistry, naive: httpx.Client) -> None:
    assert "token" not in token_for(naive)

    pushes(registry)


def test_quirk_token_only(registry: SampleRegistry, naive: httpx.Client) -> None:
    assert "access_token" not in token_for(naive)

    pushes(registry)


def test_quirk_life_not_told(registry: SampleRegistry, naive: httpx.Client) -> None:
    with pytest.raises(KeyError):
        token_for(naive)["expires_in"]

    pushes(registry)


def test_quirk_clock_skew(registry: SampleRegistry) -> None:
    pushes(registry)

    assert isinstance(registry.api.auth, BearerAuth)
    asked = registry.api.auth.tokens.requests
    assert len(asked) == 1, "by the clock of the service each token would have ended before"


def test_quirk_fewer_scopes(registry: SampleRegistry, naive: httpx.Client) -> None:
    assert isinstance(registry.api.auth, BearerAuth)
    registry.api.auth.tokens.denied.add(("u", f"repository:{NAME}", "push"))
    token = token_for(naive)["token"]
    place = f"/v2/{NAME}/blobs/uploads/"
    assert naive.post(place, headers={"Authorization": f"Bearer {token}"}).status_code == 401

    with pytest.raises((errors.AuthenticationFailed, errors.Denied)):
        pushes(registry)
    assert len(registry.api.auth.tokens.requests) <= 4, "it ends"


def test_quirk_two_challenges(registry: SampleRegistry, naive: httpx.Client) -> None:
    challenge = naive.get("/v2/").headers["www-authenticate"]
    both = {"WWW-Authenticate": f'Basic realm="x, y", {challenge}'}
    registry.fault(f"/v2/{NAME}", status=401, headers=both)
    assert both["WWW-Authenticate"].split(" ")[0] == "Basic"

    pushes(registry)

    sent = {one.headers.get("authorization", "").split(" ")[0] for one in registry.log}
    assert "Bearer" in sent


def test_quirk_first_scope_only(registry: SampleRegistry) -> None:
    ours = client(registry.url, credential=USER)
    data, descriptor = blob(1000)
    ours.put_blob(NAME, descriptor.digest, data)

    found = ours.mount_blob("c/d", descriptor.digest, NAME)

    assert isinstance(found, UploadSession), "the scope of the destination comes first"
    copy_blob(ours, NAME, ours, "c/d", descriptor, session=found)
    ours.close()
    assert registry.storage.blob("c/d", str(descriptor.digest)) is not None


def test_quirk_identity_post_404(registry: SampleRegistry, naive: httpx.Client) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": USERS["u"]}
    assert naive.post("/token", data=form).is_error
    ours = client(registry.url, credential=Credential(identity_token=USERS["u"]))

    push(ours, NAME, "v1", b"one")

    ours.close()
    assert registry.storage.manifest(NAME, "v1") is not None


def test_quirk_realm_elsewhere(registry: SampleRegistry, naive: httpx.Client) -> None:
    assert "evil.example" in naive.get("/v2/").headers["www-authenticate"]

    with pytest.raises((errors.AddressRefused, errors.AuthenticationFailed)):
        pushes(registry)


def test_quirk_location_elsewhere(registry: SampleRegistry) -> None:
    ours = client(registry.url, credential=USER)

    with pytest.raises(errors.RegistryError):
        push(ours, NAME, "v1", b"one")
    ours.close()
