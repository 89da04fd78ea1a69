"""What a registry's provider adds to its client: its row, its capabilities, its strategies.

A registry with several credentials has one of these for each: what one of them logs in to, lists and makes, is its own.

With `provider: auto` a registry whose host tells nothing is any OCI registry until one of its answers
tells more; one request is sent to find out only when a refusal may be due to its provider.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from service.errors import InvalidConfiguration, RegistryError, Unsupported
from service.model.endpoint import Credential, RegistryEndpoint
from service.model.provider import Capabilities, Provider
from service.registry.http import Http
from service.registry.logins import Logins
from service.registry.origin import split_url
from service.registry.providers.recognise import answered, configured
from service.registry.providers.strategies import NONE, OPENERS, Maker, Strategies
from service.registry.providers.table import GENERIC

if TYPE_CHECKING:
    from service.registry.providers.control_plane import ControlPlane

ABSENT_SECONDS = 2.0
"""So long a place that was not there is taken for absent without being asked for again."""


class Provided:
    """One client's provider. For any number of threads."""

    def __init__(
        self,
        http: Http,
        endpoint: RegistryEndpoint,
        credential: Callable[[], Credential],
        identity_hosts: Collection[str] = (),
    ) -> None:
        """`identity_hosts`: beside the provider's own, those that may be shown the machine's identity."""
        self._http = http
        self._identity_hosts = identity_hosts
        self._endpoint = endpoint
        self._credential = credential
        self._known = configured(endpoint)
        self._plane: ControlPlane | None = None
        self._strategies: Strategies | None = None
        self._logins: Logins | None = None
        self._lock = threading.Lock()
        self._places: dict[str, threading.Lock] = {}
        self._there: set[str] = set()
        self._absent_until: dict[str, float] = {}
        self._introduced = False
        self._introducing = threading.Lock()
        self.capabilities = self._effective()

    @property
    def name(self) -> str:
        """The registry's name."""
        return self._http.name

    @property
    def provider(self) -> Provider:
        """The registry's provider, as far as it is known by now."""
        return self._known or GENERIC

    @property
    def recognised(self) -> bool:
        """Whether the provider is known: by configuration, host or an answer."""
        return self._known is not None

    def strategies(self) -> Strategies:
        """Return what the provider's own API can do for this client."""
        opener = OPENERS.get(self.provider.name)
        if opener is None:
            return NONE
        if self._endpoint.credentials.keyless is not None:
            self._check_identity()
        with self._lock:
            if self._strategies is None:
                from service.registry.providers.control_plane import ControlPlane

                usual = self._usual_api()
                self._plane = ControlPlane(self._http, self._endpoint, self._credential, usual)
                self._strategies = opener(self._plane)
            return self._strategies

    def _usual_api(self) -> str | None:
        """Return where the provider has its API; a registry that has not said where is asked once."""
        found = self.provider.api_url(self._http.origin.host)
        if found is not None or not self.provider.api_at_realm or self._endpoint.api_url:
            return found
        if self._http.auth.realm_url is None:
            self._http.introduce()
        return self._http.auth.realm_url

    def _check_identity(self) -> None:
        """Raise InvalidConfiguration where the machine's identity would be shown to a host that is not the provider's.

        A secret is bound to hosts by whoever stores it; this one by nobody else.
        """
        provider, endpoint, host = self.provider, self._endpoint, self._http.origin.host
        proven = not endpoint.tls.insecure and endpoint.tls.ca_file is None
        asked = [(host, provider.has_host(host) and endpoint.secure and proven)]
        if endpoint.api_url is not None:
            api, usual = split_url(endpoint.api_url)[0], provider.api_url(host)
            is_usual = usual is not None and split_url(usual)[0] == api
            asked.append((api.host, is_usual and proven))
        foreign = [one for one, own in asked if not own and one not in self._identity_hosts]
        if foreign:
            raise InvalidConfiguration(
                f"{foreign[0]} is no host of {provider.title} that TLS proves: it is not shown this machine's identity",
                field="credentials.keyless",
                hint="if it is meant, name it in TRANSSHIP_KEYLESS_HOSTS where workers run",
            )

    def credential(self) -> Credential:
        """Return what the registry is to be given: what is configured, or what a login gives for it."""
        logins = self._logins_of()
        return self._credential() if logins is None else logins.credential()

    def refused(self) -> bool:
        """Be told that the registry refuses the credential; whether there may be another one now."""
        logins = self._logins_of()
        return logins is not None and logins.forget()

    def _logins_of(self) -> Logins | None:
        login = self.strategies().login
        if login is None:
            return None
        with self._lock:
            if self._logins is None:
                self._logins = Logins(login)
            return self._logins

    def make_room(self, repository: str) -> bool:
        """See to what a refused first push may miss; True when it is to be tried again, once.

        One thread makes a place, the others wait for it; another process that was faster is a
        success, too. Raises what the Maker does.
        """
        maker = self._maker()
        if maker is None:
            return False
        place = maker.place(repository)
        with self._lock:
            flight = self._places.setdefault(place, threading.Lock())
        with flight:
            if place not in self._there:
                if not maker.exists(place):
                    maker.make(place)
                self._there.add(place)
                self._absent_until.pop(place, None)
        return True

    def lacks(self, repository: str) -> bool:
        """Whether a refusal to read means that the repository's place is not there (yet).

        Harbor answers 401 for a project that it does not have. Raises what the Maker does.
        """
        maker = self._maker()
        if maker is None:
            return False
        place = maker.place(repository)
        if place in self._there:
            return False
        if time.monotonic() < self._absent_until.get(place, 0.0):
            return True
        if maker.exists(place):
            self._there.add(place)
            return False
        self._absent_until[place] = time.monotonic() + ABSENT_SECONDS
        return True

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag by the provider's own API; raises Unsupported where that cannot be done."""
        deleter = self.strategies().tag_deleter
        if self.capabilities.tag_delete == "never" or deleter is None:
            title = self.provider.title
            why = (
                f"{title} cannot delete a tag and leave its siblings"
                if self.capabilities.tag_delete == "never"
                else f"{title} deletes tags by an API of its own, which this version does not speak"
            )
            raise Unsupported(f"{self._http.name}: {why}", registry=self._http.name)
        deleter.delete(repository, tag)

    def close(self) -> None:
        """Close what is kept for the provider's API."""
        if self._plane is not None:
            self._plane.close()

    def _maker(self) -> Maker | None:
        """Return who makes what a refusal may be about; a registry that is not known yet is asked once.

        Harbor's refusal for a project that it does not have tells nothing of who it is.
        """
        if self._known is None:
            with self._introducing:
                if self._known is None and not self._introduced:
                    self._introduced = True
                    with contextlib.suppress(RegistryError):  # the refusal says more
                        self._http.introduce()
        return self.strategies().maker

    def _effective(self) -> Capabilities:
        return self._endpoint.capabilities.on(self.provider.capabilities)

    def told(self, headers: Mapping[str, str]) -> bool:
        """Learn from an answer; whether the provider is known now."""
        if self._known is not None:
            return True
        found = answered(headers)
        if found is not None:
            self._known = found
            self.capabilities = self._effective()
        return found is not None
