"""JFrog Artifactory: repository keys and their images, by its REST API with Basic credentials.

Sources: jfrog.com/help/r/jfrog-rest-apis, Get Repositories, List Docker Repositories, Create Repository. A name
here is `<key>/<image>`: the repository path method, in which one host has all keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from service.errors import Denied, NotFound, ProtocolError
from service.registry.links import next_cursor
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import make_unless_there
from service.registry.providers.strategies import Receiver, Strategies
from service.registry.results import RepositoryPage

API = "/artifactory/api"
SUBSCRIPTIONS = "/event/api/v1/subscriptions"
KINDS = ("docker", "oci")
"""The package types whose keys hold images, and the part of the API's path that lists them."""

ROWS_A_PAGE = 500


def open_jfrog(plane: ControlPlane) -> Strategies:
    """Return Artifactory's strategies."""
    artifactory = Artifactory(plane)
    return Strategies(
        repositories=JfrogImages(artifactory),
        maker=JfrogKeys(artifactory),
        webhooks=JfrogSubscriptions(plane),
    )


class Artifactory:
    """Requests to one Artifactory's API."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.name = plane.name

    def ask(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask below /artifactory/api; raises RegistryError."""
        return self._plane.call(
            method, f"{API}{path}", headers=self._plane.basic(), body=body, accept=accept
        )

    def keys(self, kind: str) -> list[str]:
        """Return the repository keys of one package type, as far as the credentials show them."""
        rows = self.ask("GET", f"/repositories?packageType={kind}").value
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ProtocolError(f"{self.name}: a list of repository keys that is none")
        return sorted(
            key
            for row in rows
            if (key := _text(row, "key")) and _text(row, "packageType").lower() in ("", kind)
        )

    def images(self, kind: str, key: str) -> Iterator[str]:
        """Yield the images of a key, whose list goes on as a registry's catalog does."""
        seen: set[str] = set()
        following: str | None = f"/{kind}/{quote(key, safe='')}/v2/_catalog?n={ROWS_A_PAGE}"
        while following is not None:
            if following in seen:
                raise ProtocolError(f"{self.name}: a list of images goes in a circle")
            seen.add(following)
            reply = self.ask("GET", following)
            found = reply.value.get("repositories") if isinstance(reply.value, dict) else None
            if found is not None and not isinstance(found, list):
                raise ProtocolError(f"{self.name}: a list of images that is none")
            yield from (name for name in found or () if isinstance(name, str))
            link = next_cursor(self._plane.origin, f"{API}{following}", reply.headers.get("link"))
            if link is not None and not link.startswith(f"{API}/"):
                raise ProtocolError(f"{self.name}: a list of images goes on elsewhere")
            following = None if link is None else link.removeprefix(API)


class JfrogImages:
    """Images, key by key: a page is those of one key."""

    def __init__(self, artifactory: Artifactory) -> None:
        self._artifactory = artifactory

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield `<key>/<image>` of each key; the cursor is the last key that is through."""
        keys = {key: kind for kind in KINDS for key in self._artifactory.keys(kind)}
        left = [key for key in sorted(keys) if cursor is None or key > cursor]
        for position, key in enumerate(left):
            names: tuple[str, ...] = ()
            try:
                images = self._artifactory.images(keys[key], key)
                names = tuple(dict.fromkeys(f"{key}/{image}" for image in images))
            except (NotFound, Denied):  # it went meanwhile, or shows nothing: the others are listed
                pass
            yield RepositoryPage(names, key if position + 1 < len(left) else None)


class JfrogKeys:
    """The repository key of an image is the first part of its name."""

    def __init__(self, artifactory: Artifactory) -> None:
        self._artifactory = artifactory

    def place(self, repository: str) -> str:
        """Return the repository key."""
        return repository.partition("/")[0]

    def exists(self, place: str) -> bool:
        """Whether there is such a key, of a type that holds images."""
        return any(place in self._artifactory.keys(kind) for kind in KINDS)

    def make(self, place: str) -> None:
        """Make a local Docker repository; raises Denied where the credentials may not."""
        body = {
            "key": place,
            "rclass": "local",
            "packageType": "docker",
            "dockerApiVersion": "V2",
            "repoLayoutRef": "simple-default",
        }
        path = f"/repositories/{quote(place, safe='')}"
        try:
            make_unless_there(
                lambda: self._artifactory.ask("PUT", path, body=body, accept=(200, 201)),
                lambda: self.exists(place),
            )
        except Denied as error:
            raise Denied(
                f"{error.registry} has no repository {place} and does not let it be made: {error.message}",
                registry=error.registry,
                status=error.status,
                oci_code=error.oci_code,
                hint="make a local Docker repository of that key, or use a user that may create repositories",
            ) from error


class JfrogSubscriptions:
    """Subscriptions of the platform's events ("Webhooks" REST API), one a repository key and receiver.

    The password is shown as an access token, which has to be an administrator's.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def place(self, repository: str) -> str:
        """Return the repository key."""
        return repository.partition("/")[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the subscription, or set all that it has anew, as its secret is never told."""
        key = _subscription(place, receiver)
        criteria = {
            "anyLocal": False,
            "anyRemote": False,
            "repoKeys": [place],
            "includePatterns": [],
            "excludePatterns": [],
        }
        handler = {
            "handler_type": "webhook",
            "url": receiver.address,
            "secret": receiver.secret,
            "use_secret_for_signing": False,
        }
        wanted = {
            "key": key,
            "description": "made by Transship",
            "enabled": True,
            "event_filter": {
                "domain": "docker",
                "event_types": ["pushed", "deleted", "promoted"],
                "criteria": criteria,
            },
            "handlers": [handler],
        }
        found = self._ask("GET", f"/{key}", accept=(200, 404))
        if found.status == 404:
            self._ask("POST", "", body=wanted, accept=(200, 201))
            return True
        self._ask("PUT", f"/{key}", body=wanted, accept=(200, 204))
        told = found.value if isinstance(found.value, dict) else {}
        handlers = told.get("handlers")
        first = handlers[0] if isinstance(handlers, list) and handlers else None
        here = isinstance(first, dict) and first.get("url") == receiver.address
        return not (here and told.get("enabled") is True)

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the subscription."""
        path = f"/{_subscription(place, receiver)}"
        return self._ask("DELETE", path, accept=(200, 204, 404)).status != 404

    def _ask(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...]
    ) -> Reply:
        headers = {"Authorization": f"Bearer {self._plane.presented().password}"}
        target = f"{SUBSCRIPTIONS}{path}"
        return self._plane.call(method, target, headers=headers, body=body, accept=accept)


def _subscription(place: str, receiver: Receiver) -> str:
    return quote(f"{receiver.name}-{place}", safe="")


def _text(row: Mapping[str, Any], member: str) -> str:
    value = row.get(member)
    return value if isinstance(value, str) else ""
