"""Pipelines: the stages that an image passes on its way to production, and the gates before each (issue 10).

An image goes one stage at a time, by digest. The first stage says what enters; every other one how a thing of
the stage before it is named there, and what has to agree first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from service.model.glob import compile_glob
from service.model.mapping import placeholders, render_repository, render_tag
from service.model.rule import Destination, NameFilter, Selection, SyncRule

APPROVAL, WEBHOOK, SIGNATURE, SCAN, AFTER = "approval", "webhook", "signature", "scan", "after"
GATES = (APPROVAL, WEBHOOK, SIGNATURE, SCAN)
"""What may stand before a stage; AFTER is what is told when an image is there."""

SEVERITIES = ("none", "low", "medium", "high", "critical")
"""How bad a scan's findings are, the mildest first; `none` is a limit that no finding keeps to."""

MAX_STAGES = 20
MAX_GATES = 10
MAX_APPROVALS = 20

AUTO = "auto"
"""The trigger of a promotion that nobody has asked for by hand."""
ASKED = "asked"
ROLLBACK = "rollback"
TRIGGER = "promotion"
"""The trigger of a promotion's execution."""


class PromotionState(StrEnum):
    """Where one promotion stands; forward only."""

    WAITING = "waiting"  # for its gates
    COPYING = "copying"
    PLACED = "placed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the image."""
        return self not in OPEN


OPEN = frozenset({PromotionState.WAITING, PromotionState.COPYING})


class StepState(StrEnum):
    """Where one gate stands, or the telling afterwards."""

    PENDING = "pending"  # those before it come first
    WAITING = "waiting"
    PASSED = "passed"  # of what is told afterwards: it was taken
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"  # what is told afterwards, and was never taken


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to agree before an image is copied to a stage. Each kind has fields of its own.

    approval: `count` people of `role` or more, `own`: the one who asked may be among them. webhook: `url` has to
    say so. signature: `key`, a public key in PEM, has to have signed the digest. scan: the findings that are told
    of it are none above `worst`; `url` is told that a scan is wanted, where there is one. `secret`: the name of a stored
    secret that signs what this gate is sent and answers, in place of the pipeline's. What has not agreed after
    `timeout_seconds` has not agreed.
    """

    kind: str
    role: str = "operator"
    count: int = 1
    own: bool = False
    url: str = ""
    key: str = ""
    worst: str = "none"
    timeout_seconds: float = 86400.0
    secret: str = ""

    @property
    def needs_secret(self) -> bool:
        """Whether what it is sent and answers is signed with the pipeline's secret."""
        return self.kind in (WEBHOOK, SCAN, AFTER) and not self.secret

    @property
    def host(self) -> str:
        """Host and port that it posts to, as secrets are bound to them; "" where it posts to nobody."""
        return urlsplit(self.url).netloc.lower()


@dataclass(frozen=True, slots=True)
class Stage:
    """A place of the pipeline.

    Of the first stage `repository` and `tag` are globs of what enters; of the others they are templates, as a rule's
    destinations have them, filled in with the name at the stage before. `auto`: what arrives at the stage before is
    promoted without anybody asking, through the gates like everything else.
    """

    name: str
    registry: str
    repository: str = ""
    tag: str = ""
    gates: tuple[Gate, ...] = ()
    after_url: str = ""
    auto: bool = False
    after_secret: str = ""

    @property
    def after(self) -> Gate | None:
        """What is told when an image is there; None for nobody."""
        return Gate(AFTER, url=self.after_url, secret=self.after_secret) if self.after_url else None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages in their order. `secret_env`: the variable with the secret of its webhooks, if none is stored."""

    name: str
    stages: tuple[Stage, ...]
    project: str = "default"
    secret_env: str = ""

    def stage(self, name: str) -> Stage | None:
        """Return a stage by its name."""
        return next((one for one in self.stages if one.name == name), None)

    def before(self, stage: Stage) -> Stage:
        """Return the stage that another one, which is not the first, is reached from."""
        return self.stages[self.stages.index(stage) - 1]

    def behind(self, name: str) -> Stage | None:
        """Return the stage after one; None behind the last."""
        place = [one.name for one in self.stages].index(name) + 1
        return self.stages[place] if place < len(self.stages) else None

    def enters(self, repository: str, tag: str) -> bool:
        """Whether what has this name in the first stage's registry belongs to the pipeline."""
        first = self.stages[0]
        return compile_glob(first.repository or "**")(repository) and (
            not tag or compile_glob(first.tag or "*")(tag)
        )

    @property
    def listens_to(self) -> str:
        """The registry whose pushes are promoted by themselves; "" for none."""
        return self.stages[0].registry if self.stages[1].auto else ""

    @property
    def needs_secret(self) -> bool:
        """Whether it posts to anybody, or is told anything."""
        return any(gate.needs_secret for _, gate in self.steps())

    def steps(self) -> Iterator[tuple[str, Gate]]:
        """Yield every gate, and what is told afterwards, each with its place in the document."""
        for index, stage in enumerate(self.stages):
            for position, gate in enumerate(stage.gates):
                yield f"stages[{index}].gates[{position}]", gate
            if stage.after is not None:
                yield f"stages[{index}].after", stage.after

    @property
    def urls(self) -> frozenset[str]:
        """Where it posts to."""
        return frozenset(gate.url for _, gate in self.steps()) - {""}

    def rules(self) -> Iterator[tuple[int, SyncRule]]:
        """Yield, for each stage but the first, a rule that may do what a promotion to it may."""
        for index in range(1, len(self.stages)):
            here, there = self.stages[index - 1], self.stages[index]
            glob = (here.repository or "**") if index == 1 else "**"
            yield (
                index,
                SyncRule(
                    f"{self.name}-{there.name}",
                    here.registry,
                    (Selection(NameFilter((glob,))),),
                    (
                        Destination(
                            registry=there.registry,
                            repository=there.repository or "{repository}",
                            tag=there.tag or "{tag}",
                        ),
                    ),
                    project=self.project,
                ),
            )


@dataclass(frozen=True, slots=True)
class Name:
    """What something is called in one registry; without a tag only its digest names it."""

    registry: str
    repository: str
    tag: str


def name_at(stage: Stage, source: Name, host: str, digest: str) -> Name:
    """Return the name that a stage gives to what has a name at the stage before it.

    Raises InvalidConfiguration and InvalidReference for a name that cannot be: a template of tags that wants
    the tag of something that has none.
    """
    repository, tag = stage.repository or "{repository}", stage.tag or "{tag}"
    common = {"host": host, "registry": source.registry, "repository": source.repository}
    return Name(
        stage.registry,
        render_repository(repository, tag=source.tag, digest=digest, **common),
        render_tag(tag, tag=source.tag, digest=digest, **common),
    )


def wants_tag(stage: Stage) -> bool:
    """Whether a stage's names are made with the tag at the stage before it."""
    used = placeholders(stage.repository or "{repository}") | placeholders(stage.tag or "{tag}")
    return "tag" in used


def rule_of(
    name: str, project: str, source: Name, digest: str, destination: Name, key: str | None
) -> SyncRule:
    """Return the rule of one promotion: this digest, under this name. `key`: what must have signed it."""
    return SyncRule(
        name=name,
        source=source.registry,
        select=(
            Selection(
                NameFilter((source.repository,)),
                NameFilter((digest,)),
                to_repository=destination.repository,
                to_tag=destination.tag,
            ),
        ),
        destinations=(Destination(registry=destination.registry),),
        project=project,
        signature_key=key,
        on_empty="fail",
        priority="urgent",
    )
