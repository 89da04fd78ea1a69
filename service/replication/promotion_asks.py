"""Ask for promotions: a reference becomes a digest once, and that digest is what is judged and copied (issue 10)."""

from __future__ import annotations

from service.errors import (
    Conflict,
    FieldProblem,
    InvalidFields,
    InvalidInput,
    NotFoundInStore,
    RegistryError,
    WrongRegion,
)
from service.model.digest import Digest
from service.model.pipeline import (
    ASKED,
    AUTO,
    ROLLBACK,
    Name,
    Pipeline,
    PromotionState,
    Stage,
    name_at,
    wants_tag,
)
from service.model.reference import validate_repository, validate_tag
from service.model.rule_check import suggest
from service.replication.borders import BorderGuard
from service.replication.clients import Clients
from service.replication.compare import told
from service.store.image_promotions import PromotionStore
from service.store.pipelines import PipelineStore
from service.store.promotion_creation import Asked
from service.store.promotion_values import Promotion


class PromotionAsker:
    """Turns what people and pushes want promoted into promotions."""

    def __init__(
        self, pipelines: PipelineStore, store: PromotionStore, clients: Clients, guard: BorderGuard
    ) -> None:
        self._pipelines = pipelines
        self._store = store
        self._clients = clients
        self._guard = guard

    def ask(self, name: str, reference: str, stage: str, actor: str) -> tuple[Promotion, bool]:
        """Ask for the promotion of REPOSITORY[:TAG][@DIGEST], as it is called at the stage before, to a stage.

        Returns it, and whether it is new. Raises InvalidFields, NotFoundInStore, Conflict, RegistryError.
        """
        pipeline = self._pipelines.get(name).pipeline
        wanted = _stage(pipeline, stage)
        before = pipeline.before(wanted)
        repository, tag, digest = _apart(reference)
        source = Name(before.registry, repository, tag)
        self._check_enters(pipeline, before, source)
        if wants_tag(wanted) and not tag:
            raise _wrong(
                "ref", "has no tag, and the stage's names are made of it", "write NAME:TAG@DIGEST"
            )
        found = digest or self.resolve(source)
        if not found:
            raise Conflict(
                f"{before.registry} has no {repository}:{tag}",
                hint=self._brings(pipeline, before, repository, tag),
            )
        if before is not pipeline.stages[0] and not self._store.placed(
            name, before.name, before.registry, repository, found
        ):
            raise Conflict(
                f"pipeline {name} has not put {repository}@{found} into stage {before.name}",
                hint=f"promote it to {before.name} first: an image passes every stage",
            )
        return self._store.ask(self._asked(pipeline, before, wanted, source, found, actor, ASKED))

    def _brings(self, pipeline: Pipeline, stage: Stage, repository: str, tag: str) -> str:
        """Say how something gets to a stage: pushed to the first, promoted to every other one."""
        if stage is pipeline.stages[0]:
            return f"push it to stage {stage.name} first: {stage.registry}/{repository}:{tag}"
        told = f"promote it to stage {stage.name} first; REF is what it is called there"
        source = Name(pipeline.before(stage).registry, repository, tag)
        try:
            there = name_at(stage, source, self._clients.endpoint(source.registry).host, "")
        except InvalidInput:
            return told
        return f"{told}: {there.repository}:{there.tag}, if {repository}:{tag} is its name before"

    def roll_back(self, identity: str, digest: str, actor: str) -> tuple[Promotion, bool]:
        """Ask for an earlier digest of a placed promotion's name, "" for the one that stood there before it.

        It is copied from the stage itself, through all gates that the stage has now. Raises NotFoundInStore, Conflict.
        """
        placed = self._store.get(identity)
        if placed.state is not PromotionState.PLACED:
            raise Conflict(
                f"promotion {identity} is {placed.state}",
                hint="only what is placed can be rolled back; cancel or reject it",
            )
        wanted = digest or placed.found or ""
        if not wanted:
            raise Conflict(
                f"nothing is known to have stood at {placed.destination.repository}:"
                f"{placed.destination.tag} before promotion {identity}",
                hint="say which one: --digest, one of `transship promotions ls --stage`",
            )
        if not self._store.stood(placed, wanted):
            raise Conflict(
                f"{wanted} has not stood there, as far as pipeline {placed.pipeline} knows",
                hint=f"one that has: transship promotions ls --pipeline {placed.pipeline} --stage {placed.stage}",
            )
        pipeline = self._pipelines.get(placed.pipeline).pipeline
        stage = pipeline.stage(placed.stage)
        if stage is None or stage.registry != placed.destination.registry:
            raise Conflict(
                f"pipeline {placed.pipeline} has no stage {placed.stage} there any more",
                hint="copy the digest by hand: transship copy",
            )
        name = placed.destination
        return self._store.ask(
            Asked(
                pipeline.name,
                pipeline.project,
                stage.name,
                stage,
                Name(name.registry, name.repository, ""),
                wanted,
                name,
                actor,
                ROLLBACK,
                takes_back=identity,
            )
        )

    def resolve(self, source: Name) -> str:
        """Return what a tag names now, "" for nothing. Raises RegistryError, WrongRegion with what to do."""
        try:
            self._guard.check_place([source.registry])
            head = self._clients.get(source.registry).head_manifest(source.repository, source.tag)
        except WrongRegion as error:
            raise Conflict(
                error.message,
                hint="say which digest: NAME:TAG@DIGEST; then nothing has to be asked from here",
            ) from error
        except RegistryError as error:
            raise Conflict(
                f"what {source.repository}:{source.tag} is cannot be seen: {told(error, source.registry)}",
                hint=error.hint or "try again, or say which digest: NAME:TAG@DIGEST",
            ) from error
        return "" if head is None else str(head.digest)

    def of_push(self, pipeline: Pipeline, repository: str, tag: str) -> Asked | None:
        """Return what a push into the first stage asks for; None where it is none of the pipeline's any more.

        Nor is what the pipeline has put there itself: it would go round. Raises WrongRegion where another process has to
        look, Conflict where the registry does not say what was pushed, and InvalidInput for an impossible name.
        """
        first, second = pipeline.stages[0], pipeline.stages[1]
        source = Name(first.registry, repository, tag)
        if not second.auto or not pipeline.enters(repository, tag):
            return None
        self._guard.check_place([first.registry])
        digest = self.resolve(source)
        if not digest or self._store.wrote(pipeline.name, source, digest):
            return None
        actor = f"pipeline {pipeline.name}"
        return self._asked(pipeline, first, second, source, digest, actor, AUTO)

    def following(self, placed: Promotion) -> Asked | None:
        """Return what a placed promotion goes on to by itself; None for nothing. Raises InvalidInput.

        Who asked for the placed one has asked for this one, too, and may not approve it.
        """
        if placed.trigger == ROLLBACK:
            return None
        try:
            pipeline = self._pipelines.get(placed.pipeline).pipeline
        except NotFoundInStore:
            return None
        here = pipeline.stage(placed.stage)
        there = None if here is None else pipeline.behind(placed.stage)
        if here is None or there is None or not there.auto:
            return None
        if here.registry != placed.destination.registry:
            return None
        return self._asked(
            pipeline, here, there, placed.destination, placed.digest, placed.asked_by, AUTO
        )

    def _asked(
        self,
        pipeline: Pipeline,
        before: Stage,
        stage: Stage,
        source: Name,
        digest: str,
        actor: str,
        trigger: str,
    ) -> Asked:
        host = self._clients.endpoint(source.registry).host
        return Asked(
            pipeline.name,
            pipeline.project,
            before.name,
            stage,
            source,
            digest,
            name_at(stage, source, host, digest),
            actor,
            trigger,
        )

    @staticmethod
    def _check_enters(pipeline: Pipeline, before: Stage, source: Name) -> None:
        if before is pipeline.stages[0] and not pipeline.enters(source.repository, source.tag):
            raise _wrong(
                "ref",
                f"{source.repository}:{source.tag} does not enter pipeline {pipeline.name}",
                f"stage {before.name} takes {before.repository or '**'} with the tags {before.tag or '*'}",
            )


def _stage(pipeline: Pipeline, name: str) -> Stage:
    names = [one.name for one in pipeline.stages]
    found = pipeline.stage(name)
    if found is None:
        raise _wrong(
            "to", f"pipeline {pipeline.name} has no stage {name[:80]!r}", suggest(name, names)
        )
    if found is pipeline.stages[0]:
        raise _wrong(
            "to", f"{name} is the first stage: images are pushed there", suggest("", names[1:])
        )
    return found


def _apart(reference: str) -> tuple[str, str, str]:
    """Return repository, tag and digest of REPOSITORY[:TAG][@DIGEST]; what is not there is "". Raises InvalidFields."""
    name, at, digest = reference.partition("@")
    repository, colon, tag = name.partition(":")
    try:
        validate_repository(repository)
        if colon:
            validate_tag(tag)
        if at:
            digest = str(Digest.parse(digest))
    except InvalidInput as error:
        raise _wrong(
            "ref",
            f"{reference[:200]!r}: {error.message}",
            "write REPOSITORY:TAG or REPOSITORY:TAG@DIGEST, without a registry",
        ) from error
    if not colon and not at:
        raise _wrong(
            "ref", f"{reference[:200]!r} has neither tag nor digest", "write REPOSITORY:TAG"
        )
    return repository, tag, digest


def _wrong(field: str, message: str, hint: str = "") -> InvalidFields:
    return InvalidFields((FieldProblem(field, message, hint),))
