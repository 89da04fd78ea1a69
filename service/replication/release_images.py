"""What a release is made of: its images' digests at the source, and their names at every destination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from service.errors import InvalidConfiguration, ManifestNotFound
from service.model.mapping import placeholders
from service.model.reference import is_digest_tag
from service.model.release import (
    MAX_IMAGES,
    ReleaseImage,
    ReleaseTag,
    check_releasable,
    staging_rule,
)
from service.model.rule import SyncRule
from service.model.selection import RuleSelector, destination_registries
from service.registry.client import RegistryClient

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Resolved:
    """Images with their digests, a row for each at every destination, and the rule that stages them."""

    images: tuple[ReleaseImage, ...]
    tags: tuple[ReleaseTag, ...]
    staging: SyncRule


def resolve(
    rule: SyncRule,
    asked: Sequence[ReleaseImage],
    source: RegistryClient,
    members: Mapping[str, Sequence[str]],
    region_of: Callable[[str], str],
) -> Resolved:
    """Find out what a release moves; without images asked for it is all that the rule takes.

    `members` are the registries of each group. Raises InvalidConfiguration for what cannot be a release,
    and RegistryError.
    """
    check_releasable(rule)
    names = RuleSelector(rule, host=source.endpoint.host)
    wanted = list(dict.fromkeys(asked or _all_of(rule, names, source)))
    if not wanted:
        raise InvalidConfiguration(f"rule {rule.name} takes nothing of {rule.source}")
    entries = [_entry(rule, names, image) for image in wanted]
    images = _with_digests(source, wanted)
    _check_templates(rule, names, set(entries))
    staging = staging_rule(
        rule,
        [(one.repository, entry, one.digest) for one, entry in zip(images, entries, strict=True)],
    )
    registries = [destination_registries(one, rule.source, members) for one in rule.destinations]
    staged = RuleSelector(staging, host=source.endpoint.host)
    tags: dict[tuple[str, str, str], ReleaseTag] = {}
    for image, entry in zip(images, entries, strict=True):
        targets = names.targets(image.repository, image.reference, image.digest, entry=entry)
        for target, there in zip(
            targets, staged.targets(image.repository, image.digest), strict=True
        ):
            if target.repository != there.repository:
                raise InvalidConfiguration(
                    f"rule {rule.name} puts {image.repository}:{image.reference} into "
                    f"{target.repository}, and another tag of the same image into {there.repository}",
                    hint="make a release of each",
                )
            for registry in registries[target.destination_index]:
                tag = ReleaseTag(
                    id=0,
                    source_repository=image.repository,
                    registry=registry,
                    region=region_of(registry),
                    repository=target.repository,
                    tag="" if ":" in target.reference else target.reference,
                    digest=image.digest,
                    platforms=rule.select[entry].platforms,
                )
                _add(tags, tag)
    return Resolved(images, tuple(tags.values()), staging)


def _check_templates(rule: SyncRule, names: RuleSelector, entries: Iterable[int]) -> None:
    for entry in entries:
        for _, repository, _ in names.templates_of(entry):
            if placeholders(repository) & {"tag", "digest"}:
                raise InvalidConfiguration(
                    f"rule {rule.name} names repositories by {repository!r}",
                    hint="a release needs repositories at destinations that do not depend on the tag",
                )


def _add(tags: dict[tuple[str, str, str], ReleaseTag], tag: ReleaseTag) -> None:
    key = (tag.registry, tag.repository, tag.tag or tag.digest)
    if tags.setdefault(key, tag).digest != tag.digest:
        raise InvalidConfiguration(f"two images of the release would both become {tag.name}")


def _entry(rule: SyncRule, names: RuleSelector, image: ReleaseImage) -> int:
    found = names.entries_of(image.repository, image.reference)
    if not found:
        separator = ":" if image.tag else "@"
        raise InvalidConfiguration(
            f"rule {rule.name} does not take {image.repository}{separator}{image.reference}",
            hint="write REPOSITORY:TAG@DIGEST to name the tag that a digest is to get"
            if not image.tag
            else "",
        )
    return found[0]


def _all_of(rule: SyncRule, names: RuleSelector, source: RegistryClient) -> Sequence[ReleaseImage]:
    """List what the rule takes by its names; raises InvalidConfiguration where names do not tell."""
    if any(one.types or one.platforms or one.tags.newest for one in rule.select):
        raise InvalidConfiguration(
            f"rule {rule.name} looks at what images are, not only at their names",
            hint="name the images of the release: --image REPOSITORY:TAG",
        )
    found: dict[tuple[str, str], ReleaseImage] = {}
    for repository in _repositories(names, source):
        for reference in _references(names, source, repository):
            is_digest = ":" in reference
            found[repository, reference] = ReleaseImage(
                repository, "" if is_digest else reference, reference if is_digest else ""
            )
        _bound(found)
    return list(found.values())


def _repositories(names: RuleSelector, source: RegistryClient) -> Iterable[str]:
    exact = names.exact_repositories()
    if exact is not None:
        return exact
    listed = {
        name
        for page in source.list_repositories()
        for name in page.repositories
        if names.wants_repository(name)
    }
    return sorted(listed | names.named_repositories())


def _references(names: RuleSelector, source: RegistryClient, repository: str) -> Iterable[str]:
    exact = names.exact_tags(repository)
    if exact is not None:
        return exact
    listed = [
        tag
        for page in source.list_tags(repository)
        for tag in page.tags
        if not is_digest_tag(tag) and names.wants(repository, tag)
    ]
    return [*listed, *names.named_digests(repository)]


def _with_digests(
    source: RegistryClient, images: Sequence[ReleaseImage]
) -> tuple[ReleaseImage, ...]:
    """Ask the source what each tag is; raises ManifestNotFound for one that is not there."""
    _bound(images)

    def look(image: ReleaseImage) -> ReleaseImage:
        if image.digest:
            return image
        head = source.head_manifest(image.repository, image.tag)
        if head is None:
            raise ManifestNotFound(
                f"{source.name} has no {image.repository}:{image.tag}", registry=source.name
            )
        return replace(image, digest=str(head.digest))

    with ThreadPoolExecutor(AT_ONCE, "release") as pool:
        return tuple(pool.map(look, images))


def _bound(images: Sequence[ReleaseImage] | Mapping[tuple[str, str], ReleaseImage]) -> None:
    if len(images) > MAX_IMAGES:
        raise InvalidConfiguration(
            f"a release has {MAX_IMAGES} images at most", hint="make several of it"
        )
