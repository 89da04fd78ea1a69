"""References to images, and the grammar of repositories and tags."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from service.errors import InvalidDigest, InvalidReference
from service.model.digest import Digest

MAX_REPOSITORY_LENGTH = 255
MAX_TAG_LENGTH = 128
DOCKER_HUB = "docker.io"
DOCKER_HUB_ALIASES = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)

# distribution-spec, "Pulling manifests": <name> and <reference>.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_PART = re.compile(_COMPONENT)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# distribution-spec, "Referrers Tag Schema", and cosign's .sig, .att, .sbom beside it.
_DIGEST_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64,}(?:\.[a-z0-9.]+)?")
_HOST_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"({_HOST_LABEL}(?:\.{_HOST_LABEL})*)(?::([0-9]{{1,5}}))?")
_IPV6_HOST = re.compile(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?")


def validate_repository(text: str) -> str:
    """Return the repository's name as it is; raises InvalidReference naming what is wrong.

    Source of the rule: distribution-spec <name>, at most 255 characters.
    """
    if len(text) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text):
        return text
    raise InvalidReference(f"not a repository: {text[:80]!r}: {_repository_fault(text)}")


def _repository_fault(text: str) -> str:
    if not text:
        return "it is empty"
    if len(text) > MAX_REPOSITORY_LENGTH:
        return f"{len(text)} characters, at most {MAX_REPOSITORY_LENGTH} are allowed"
    if text != text.lower():
        return "upper-case letters are not allowed"
    for part in text.split("/"):
        if not part:
            return "empty part: / may neither lead, trail nor follow another /"
        if not _PART.fullmatch(part):
            return (
                f"part {part[:40]!r} is not letters a-z and digits, "
                "separated by one of . _ __ or dashes"
            )
    return "it does not follow the grammar of the distribution spec"


def validate_tag(text: str) -> str:
    """Return the tag as it is; raises InvalidReference naming what is wrong.

    Source of the rule: distribution-spec <reference> as a tag, at most 128 characters.
    """
    if _TAG.fullmatch(text):
        return text
    if not text:
        fault = "it is empty"
    elif len(text) > MAX_TAG_LENGTH:
        fault = f"{len(text)} characters, at most {MAX_TAG_LENGTH} are allowed"
    elif not re.match(r"[a-zA-Z0-9_]", text):
        fault = "it must begin with a letter, a digit or _"
    else:
        fault = "only letters, digits and . _ - are allowed"
    raise InvalidReference(f"not a tag: {text[:80]!r}: {fault}")


def is_digest_tag(tag: str) -> bool:
    """Whether the tag names what is attached to a digest (referrers fallback, cosign)."""
    return _DIGEST_TAG.fullmatch(tag) is not None


def digest_tag(digest: Digest, suffix: str = "") -> str:
    """Return the tag under which things attached to the digest stand: `sha256-<hex>` + suffix.

    Source: distribution-spec, "Referrers Tag Schema": encoded part cut to 64 characters.
    """
    return f"{digest.algorithm}-{digest.encoded[:64]}{suffix}"


@dataclass(frozen=True, slots=True)
class Reference:
    """registry/repository with a tag, a digest, or both (then the digest is what counts)."""

    registry: str  # host or host:port, lower case; an IPv6 address in brackets
    repository: str
    tag: str | None = None
    digest: Digest | None = None
    scheme: Literal["http", "https"] | None = None  # None: not written

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as people write it; raises InvalidReference.

        Without a registry it is Docker Hub's, without tag and digest the tag is latest, as docker
        reads it. A scheme in front is kept, and makes the first part the registry.
        """
        scheme, rest = _split_scheme(text)
        rest, digest = _split_digest(rest)
        host, repository = _split_registry(text, rest, always=scheme is not None)
        repository, colon, tag = repository.partition(":")
        if host == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        validate_repository(repository)
        if colon:
            validate_tag(tag)
        chosen = tag if colon else None
        if chosen is None and digest is None:
            chosen = "latest"
        return cls(host, repository, chosen, digest, scheme)

    @property
    def target(self) -> str:
        """What goes into /manifests/<target>: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag or "latest"

    def __str__(self) -> str:
        prefix = f"{self.scheme}://" if self.scheme else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{prefix}{self.registry}/{self.repository}{tag}{digest}"


def validate_host(text: str) -> str:
    """Return host or host:port in lower case; raises InvalidReference.

    No user information, no path; IPv6 in brackets; port 1 to 65535.
    """
    if "@" in text:
        raise InvalidReference("user information is not allowed in a registry's address")
    match = _IPV6_HOST.fullmatch(text)
    if match:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise InvalidReference(f"not an IPv6 address: {match[1][:60]!r}") from None
    else:
        match = _HOST.fullmatch(text)
    if not match:
        raise InvalidReference(f"not a registry's host: {text[:80]!r}")
    if match[2] is not None and not 0 < int(match[2]) < 65536:
        raise InvalidReference(f"port {match[2]} is out of range: 1 to 65535")
    return text.lower()


def _split_scheme(text: str) -> tuple[Literal["http", "https"] | None, str]:
    if text.startswith("https://"):
        return "https", text[8:]
    if text.startswith("http://"):
        return "http", text[7:]
    if "://" in text:
        raise InvalidReference(f"unknown scheme in {text[:80]!r}: http:// or https://, or none")
    return None, text


def _split_digest(rest: str) -> tuple[str, Digest | None]:
    name, at, digest_text = rest.partition("@")
    if not at:
        return rest, None
    if "/" in digest_text or ":" not in digest_text:
        # host part of user:password@host, never a digest; the text may hold a password
        raise InvalidReference("user information is not allowed in a reference")
    try:
        return name, Digest.parse(digest_text)
    except InvalidDigest as error:
        raise InvalidReference(error.message) from None


def _split_registry(text: str, rest: str, *, always: bool) -> tuple[str, str]:
    """Split off the registry by docker's rule: a first part with . or : in it, or localhost."""
    first, slash, remainder = rest.partition("/")
    is_host = always or (
        bool(slash)
        and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    )
    if not is_host:
        return DOCKER_HUB, rest
    if not remainder:
        raise InvalidReference(f"{text[:80]!r} names a registry but no repository")
    host = validate_host(first)
    return (DOCKER_HUB if host in DOCKER_HUB_ALIASES else host), remainder
