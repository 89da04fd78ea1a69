"""What only a provider's own API can do: small protocols, and which provider has which.

A strategy is made once per registry client and shared by its threads. All raise
service.errors.RegistryError as the API answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from service.model.endpoint import Credential
from service.registry.results import RepositoryPage

if TYPE_CHECKING:
    from service.registry.providers.artifacthub import Archive, Package
    from service.registry.providers.control_plane import ControlPlane


class Login(Protocol):
    """Gets what the registry takes for the credential that is configured."""

    def login(self) -> Credential:
        """Return a username and password that the registry takes, and when to get the next."""


class Repositories(Protocol):
    """Lists repositories where the registry has no catalog, or shows it to few."""

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield pages; `cursor` is the `next` of one, to go on behind it."""


class TagsWithDigests(Protocol):
    """Tells what tags point at, many at once."""

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, page by page; tags may be left out, those told are so."""


class PushedTags(Protocol):
    """Tells when tags were pushed, many at once."""

    def pages(self, repository: str) -> Iterator[Mapping[str, float]]:
        """Yield tag to seconds by the provider's clock, good for comparing alone; 0 where it does not say."""


class Maker(Protocol):
    """Makes what has to be there before the first push into a repository."""

    def place(self, repository: str) -> str:
        """Return the name of what has to be there: a project, a namespace, the repository itself."""

    def exists(self, place: str) -> bool:
        """Whether it is there, as far as the credentials show."""

    def make(self, place: str) -> None:
        """Make it; that somebody else was faster is a success."""


class TagDeleter(Protocol):
    """Deletes a tag and none of its siblings."""

    def delete(self, repository: str, tag: str) -> None:
        """Delete it; raises ManifestNotFound when it is not there."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a provider is to send its events, and with which secret."""

    name: str  # of what is made at the provider, one a registry
    address: str  # without the secret
    secret: str = field(repr=False)
    role: str | None = None  # the ARN of what sends at AWS

    @property
    def with_secret(self) -> str:
        """The address for senders that can neither sign nor send a header."""
        return f"{self.address}/{self.secret}"


class Webhooks(Protocol):
    """Has a provider send its events."""

    def place(self, repository: str) -> str:
        """Return where a webhook for a repository is kept: its project, its owner, the repository itself."""

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the receiver's webhook, or make it as it should be; whether anything had to be changed."""

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove it; whether there was one."""


class Index(Protocol):
    """Names what lies elsewhere (registry/index_client.py)."""

    def ping(self) -> None:
        """Ask the least; raises RegistryError."""

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield pages of repositories; `cursor` is the `next` of one, to go on behind it."""

    def package(self, repository: str, *, fresh: bool = False) -> Package:
        """Return where a chart is, and its versions, as of now or of lately; raises RepositoryNotFound."""

    def archive(self, repository: str, version: str) -> Archive:
        """Return where the archive of a version is; raises Unsupported, RepositoryNotFound."""


@dataclass(frozen=True, slots=True)
class Strategies:
    """What one provider has; None: nothing but the distribution API."""

    login: Login | None = None
    repositories: Repositories | None = None
    tags_with_digests: TagsWithDigests | None = None
    pushed: PushedTags | None = None
    maker: Maker | None = None
    tag_deleter: TagDeleter | None = None
    index: Index | None = None
    webhooks: Webhooks | None = None
    no_webhooks: str = ""
    """Why there are none, where the credential is the reason: the rest of a sentence that begins with the provider."""


NONE = Strategies()


def _gar(plane: ControlPlane) -> Strategies:
    from service.registry.providers.gar import open_gar

    return open_gar(plane)


def _ghcr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.ghcr import open_ghcr

    return open_ghcr(plane)


def _gitlab(plane: ControlPlane) -> Strategies:
    from service.registry.providers.gitlab import open_gitlab

    return open_gitlab(plane)


def _harbor(plane: ControlPlane) -> Strategies:
    from service.registry.providers.harbor import open_harbor

    return open_harbor(plane)


def _acr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.acr import open_acr

    return open_acr(plane)


def _aliyun(plane: ControlPlane) -> Strategies:
    from service.registry.providers.aliyun import open_aliyun

    return open_aliyun(plane)


def _artifacthub(plane: ControlPlane) -> Strategies:
    from service.registry.providers.artifacthub import open_artifacthub

    return open_artifacthub(plane)


def _ccr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.ccr import open_ccr

    return open_ccr(plane)


def _dockerhub(plane: ControlPlane) -> Strategies:
    from service.registry.providers.dockerhub import open_dockerhub

    return open_dockerhub(plane)


def _ecr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.ecr import open_ecr

    return open_ecr(plane)


def _ecr_public(plane: ControlPlane) -> Strategies:
    from service.registry.providers.ecr_public import open_ecr_public

    return open_ecr_public(plane)


def _jfrog(plane: ControlPlane) -> Strategies:
    from service.registry.providers.jfrog import open_jfrog

    return open_jfrog(plane)


def _quay(plane: ControlPlane) -> Strategies:
    from service.registry.providers.quay import open_quay

    return open_quay(plane)


def _swr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.swr import open_swr

    return open_swr(plane)


def _tcr(plane: ControlPlane) -> Strategies:
    from service.registry.providers.tcr import open_tcr

    return open_tcr(plane)


def _volcengine(plane: ControlPlane) -> Strategies:
    from service.registry.providers.volcengine import open_volcengine

    return open_volcengine(plane)


OPENERS: Mapping[str, Callable[[ControlPlane], Strategies]] = {
    "acr": _acr,
    "aliyun-acr": _aliyun,
    "artifacthub": _artifacthub,
    "ccr": _ccr,
    "dockerhub": _dockerhub,
    "ecr": _ecr,
    "ecr-public": _ecr_public,
    "gar": _gar,
    "ghcr": _ghcr,
    "gitlab": _gitlab,
    "harbor": _harbor,
    "jfrog": _jfrog,
    "quay": _quay,
    "swr": _swr,
    "tcr": _tcr,
    "volcengine": _volcengine,
}
"""By provider; a module is loaded when a registry of its provider is first asked for more."""
