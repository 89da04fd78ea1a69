"""Releases: a set of images whose tags move together at all destinations of a rule (issue 6 point 8).

A release stages its images by digest, has them proved, and flips all of its tags in one pass. Until it is
deleted its tags are its own: no sync moves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from service.errors import InvalidConfiguration
from service.model.digest import Digest
from service.model.reference import validate_repository, validate_tag
from service.model.rule import REPLICATE, Destination, NameFilter, Selection, SyncRule

MAX_IMAGES = 5000
"""A larger set is several releases: each tag is a row, and a PUT within the window."""


class ReleaseState(StrEnum):
    """Where a release stands. Work goes on by itself in the states of WORKING, the others wait for a word."""

    RESOLVING = "resolving"  # which digests, and where they go
    STAGING = "staging"  # an execution copies the images by digest
    PROVING = "proving"  # every manifest and a byte of every blob is read at each destination
    STAGED = "staged"
    PREPARING = "preparing"  # proved once more, and what each tag is now is written down
    FLIPPING = "flipping"  # the tags move
    FLIPPED = "flipped"
    CHECKING = "checking"  # a rollback was asked for: is what was before still there, everywhere
    SETTING_BACK = "setting_back"  # a flip failed: what moved goes back
    SET_BACK = "set_back"
    ROLLING_BACK = "rolling_back"  # somebody asked for what was before
    ROLLED_BACK = "rolled_back"
    MIXED = "mixed"  # some tags could not be set back
    FAILED = "failed"  # nothing has moved


class TagState(StrEnum):
    """Where one tag of a release stands at one destination."""

    PENDING = "pending"  # as it was
    PREPARED = "prepared"  # what it was is known
    FLIPPED = "flipped"
    FAILED = "failed"  # the registry refused it
    RESTORED = "restored"  # as it was before
    MOVED = "moved"  # somebody else moved it meanwhile: it is left alone
    STAYS = "stays"  # it was not there before, and the registry cannot delete tags
    STUCK = "stuck"  # it could not be set back


WORKING = frozenset(
    {
        ReleaseState.RESOLVING,
        ReleaseState.STAGING,
        ReleaseState.PROVING,
        ReleaseState.PREPARING,
        ReleaseState.FLIPPING,
        ReleaseState.CHECKING,
        ReleaseState.SETTING_BACK,
        ReleaseState.ROLLING_BACK,
    }
)

MOVING = frozenset(
    {
        ReleaseState.PREPARING,
        ReleaseState.FLIPPING,
        ReleaseState.CHECKING,
        ReleaseState.SETTING_BACK,
        ReleaseState.ROLLING_BACK,
    }
)
"""States in which no other release moves any of the same tags."""

BACK = frozenset(
    {
        ReleaseState.SETTING_BACK,
        ReleaseState.SET_BACK,
        ReleaseState.ROLLING_BACK,
        ReleaseState.ROLLED_BACK,
        ReleaseState.MIXED,
    }
)
"""States in which its tags are to be what they were."""

STAGE, FLIP, ROLLBACK = "stage", "flip", "rollback"

ACTIONS: dict[str, tuple[frozenset[ReleaseState], ReleaseState]] = {
    STAGE: (frozenset({ReleaseState.FAILED, ReleaseState.SET_BACK}), ReleaseState.RESOLVING),
    FLIP: (
        frozenset({ReleaseState.STAGED, ReleaseState.SET_BACK, ReleaseState.ROLLED_BACK}),
        ReleaseState.PREPARING,
    ),
    ROLLBACK: (frozenset({ReleaseState.FLIPPED, ReleaseState.MIXED}), ReleaseState.CHECKING),
}
"""What may be asked for: in which states, and which one follows."""


def unchecked(following: ReleaseState, state: ReleaseState, *, force: bool) -> ReleaseState:
    """Return what follows: a rollback that tries again, or is to take what it can get, is not checked first."""
    if following is ReleaseState.CHECKING and (force or state is ReleaseState.MIXED):
        return ReleaseState.ROLLING_BACK
    return following


@dataclass(frozen=True, slots=True)
class ReleaseImage:
    """An image of a release at the rule's source; without a tag it is staged, and nothing flips.

    `digest` empty: what the tag is when the release is resolved.
    """

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """The tag, or the digest of an image without one."""
        return self.tag or self.digest


@dataclass(frozen=True, slots=True)
class ReleaseTag:
    """One image of a release at one destination; `tag` empty: it is only staged.

    `previous` is the digest that the tag had when the flip was prepared, "" when there was no such tag;
    `before` whether that is known. Times are seconds since 1970 by the database's clock.
    """

    id: int
    source_repository: str
    registry: str
    region: str
    repository: str
    tag: str
    digest: str
    platforms: tuple[str, ...] = ()
    previous: str | None = None
    state: TagState = TagState.PENDING
    reason: str = ""
    flipped_from: float | None = None
    flipped_at: float | None = None

    @property
    def name(self) -> str:
        """The name for people."""
        separator, reference = (":", self.tag) if self.tag else ("@", self.digest)
        return f"{self.registry}/{self.repository}{separator}{reference}"


def parse_image(text: str) -> ReleaseImage:
    """Return the image that `REPOSITORY:TAG`, `REPOSITORY:TAG@DIGEST` or `REPOSITORY@DIGEST` names.

    Raises InvalidInput.
    """
    name, at, digest = text.partition("@")
    repository, colon, tag = name.partition(":")
    if not (at or colon):
        raise InvalidConfiguration(
            f"{text!r} names neither a tag nor a digest", hint="write REPOSITORY:TAG[@DIGEST]"
        )
    validate_repository(repository)
    if colon:
        validate_tag(tag)
    return ReleaseImage(repository, tag, str(Digest.parse(digest)) if at else "")


def check_releasable(rule: SyncRule) -> None:
    """Raise InvalidConfiguration for a rule whose tags are not to be moved apart from it."""
    if rule.mode == REPLICATE:
        raise InvalidConfiguration(
            f"rule {rule.name} keeps a whole replica: what a release moved there would be drift",
            field="rule",
            hint="release by a rule of mode sync",
        )


def staging_rule(rule: SyncRule, images: Sequence[tuple[str, int, str]]) -> SyncRule:
    """Return a rule that copies images by digest to where `rule` would put their tags.

    `images` are repository, entry of the rule's select, and digest. Nothing is tagged, and nothing deleted.
    """
    groups: dict[tuple[str, int], dict[str, None]] = {}
    for repository, entry, digest in images:
        groups.setdefault((repository, entry), {})[digest] = None
    return replace(
        rule,
        select=tuple(
            Selection(
                NameFilter((repository,)),
                NameFilter(tuple(digests)),
                platforms=rule.select[entry].platforms,
                to_repository=rule.select[entry].to_repository,
            )
            for (repository, entry), digests in groups.items()
        ),
        destinations=tuple(
            Destination(one.registry, one.group, one.repository) for one in rule.destinations
        ),
        on_conflict="overwrite",
        delete=type(rule.delete)(),
    )
