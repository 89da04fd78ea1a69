"""`transship.yaml`: regions, registries, rules and more in files, every error with its file and line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from marshmallow import fields

from api.schemas.common import Path, StrictSchema, load, under
from api.schemas.fields import Items, Whole
from api.schemas.gateway import GatewaySchema
from api.schemas.governance import load_project
from api.schemas.pipeline import MASK, load_pipeline
from api.schemas.region import load_link, load_region
from api.schemas.registry import load_registry, written_registry
from api.schemas.requirement import leave_to_server, read_key_here
from api.schemas.rule import DefaultsSchema, load_rule
from api.yaml_lines import MAX_BYTES, Lines, line_of, read_yaml
from service.errors import FieldProblem, InvalidConfiguration, InvalidFields
from service.model.borders import NO_BORDERS, Borders
from service.model.endpoint import RegistryEndpoint
from service.model.loops import check_loops
from service.model.pipeline import Pipeline
from service.model.pipeline_check import check_pipeline
from service.model.project import EVERYTHING, Project, check_access, check_project
from service.model.region import Link, Region
from service.model.region_check import check_link, check_nearer
from service.model.rule import SyncRule
from service.model.rule_check import check_rule, suggest
from service.model.selection import members_of_groups

KINDS = ("regions", "links", "projects", "registries", "rules", "pipelines")
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Config:
    """What one or several files say, in their order, with what was written for each object.

    `documents` is keyed by (one of KINDS, name); a rule's document has its file's defaults in it.
    `places` gives file and line of each object; `lines` those of each path, of a single file.
    """

    source: str
    registries: tuple[RegistryEndpoint, ...]
    rules: tuple[SyncRule, ...]
    documents: Mapping[tuple[str, str], dict[str, Any]]
    lines: Lines = field(repr=False)
    projects: tuple[Project, ...] = ()
    regions: tuple[Region, ...] = ()
    links: tuple[Link, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    gateways: int = 0  # how many files say what a gateway serves; `apply` leaves that alone
    places: Mapping[tuple[str, str], tuple[str, int | None]] = field(
        default_factory=dict, repr=False
    )


@dataclass(frozen=True, slots=True)
class Outside:
    """What stands elsewhere (on a server) and may be named by a file that does not have it.

    `of_server`: there is one, and it reads the files of keys that are named.
    """

    endpoints: Mapping[str, RegistryEndpoint] = field(default_factory=dict)
    projects: Mapping[str, Project] = field(default_factory=dict)
    regions: Mapping[str, str | None] = field(default_factory=dict)  # with their jurisdictions
    of_server: bool = False
    signed: frozenset[str] = frozenset()  # the pipelines whose secret is stored there


class FileSchema(StrictSchema):
    """The file's top level; its items are read one by one."""

    version = Whole(least=1, most=1, required=True)
    regions = Items(fields.Raw(), most=1000)
    links = Items(fields.Raw(), most=10_000)
    projects = Items(fields.Raw(), most=10_000)
    registries = Items(fields.Raw(), most=10_000)
    defaults = fields.Nested(DefaultsSchema)
    rules = Items(fields.Raw(), most=10_000)
    pipelines = Items(fields.Raw(), most=1000)
    gateway = fields.Nested(GatewaySchema)


def load_file(path: str | os.PathLike[str]) -> Config:
    """Read a file; raises InvalidConfiguration, naming file, line and field, and what to do."""
    return load_files([os.fspath(path)])


def load_files(paths: Sequence[str], outside: Outside = Outside()) -> Config:
    """Read files, the files of directories, and `-`, standard input, as one configuration.

    Raises InvalidConfiguration as load_file does, with everything that is wrong in any of them.
    """
    texts = [text for path in paths for text in _texts(path)]
    return _load([(source, _decoded(raw, source)) for source, raw in texts], outside)


def load_text(text: str, *, source: str = "transship.yaml") -> Config:
    """Read a file's text; raises as load_file does."""
    return _load([(source, text)], Outside())


def _texts(path: str) -> list[tuple[str, bytes]]:
    if path == STDIN:
        return [("standard input", sys.stdin.buffer.read(MAX_BYTES + 1))]
    place = FilePath(path)
    if not place.is_dir():
        return [(str(place), _read(place))]
    files = sorted(one for one in place.iterdir() if one.suffix in SUFFIXES and one.is_file())
    if not files:
        raise InvalidConfiguration(
            f"{place}: there is no {', '.join(SUFFIXES)} in this directory", field="--file"
        )
    return [(str(one), _read(one)) for one in files]


def _read(file: FilePath) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidConfiguration(f"{file}: cannot be read: {reason}") from error


def _decoded(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = FieldProblem("", "this is not UTF-8", "save the file as UTF-8", line)
        raise InvalidFields((problem,), source=source) from error


def _load(texts: Sequence[tuple[str, str]], outside: Outside) -> Config:
    whole = _Whole(outside)
    for source, text in texts:
        document, lines = read_yaml(text, source)
        _Reading(source, lines, whole).read(document)
    whole.check()
    if whole.problems:
        raise whole.error(texts)
    lines = whole.readings[0].lines if len(whole.readings) == 1 else {}
    return Config(
        ", ".join(source for source, _ in texts),
        tuple(whole.registries.values()),
        tuple(whole.rules.values()),
        whole.documents,
        lines,
        tuple(whole.projects.values()),
        tuple(whole.regions.values()),
        tuple(whole.links.values()),
        tuple(whole.pipelines.values()),
        whole.gateways,
        {key: reading.place(path) for key, (reading, path) in whole.where.items()},
    )


class _Whole:
    """What all files together say, and all that is wrong with it."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.read_key = leave_to_server if outside.of_server else read_key_here
        self.readings: list[_Reading] = []
        self.unread: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self.problems: list[FieldProblem] = []
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.where: dict[tuple[str, str], tuple[_Reading, Path]] = {}
        self.regions: dict[str, Region] = {}
        self.links: dict[str, Link] = {}
        self.projects: dict[str, Project] = {}
        self.registries: dict[str, RegistryEndpoint] = {}
        self.rules: dict[str, SyncRule] = {}
        self.pipelines: dict[str, Pipeline] = {}
        self.gateways = 0

    def error(self, texts: Sequence[tuple[str, str]]) -> InvalidFields:
        order = {source: index for index, (source, _) in enumerate(texts)}
        ordered = sorted(self.problems, key=lambda one: (order.get(one.file, 0), one.line or 0))
        return InvalidFields(tuple(ordered), source=texts[0][0])

    def check(self) -> None:
        """Hold everything to what it names, here and outside."""
        self._check_regions()
        endpoints = {**self.outside.endpoints, **self.registries}
        projects = {**self.outside.projects, **self.projects}
        projects.setdefault(EVERYTHING.name, EVERYTHING)
        unread = self.unread["registries"]
        if "" in unread | self.unread["projects"]:
            return  # one that could not be read has no name: whoever is missed may be that one
        for name, project in self.projects.items():
            if not unread:
                self._tell(("projects", name), check_project(project, endpoints))
        members = members_of_groups(endpoints.values())
        for name, rule in self.rules.items():
            named = {rule.source, *(one.registry for one in rule.destinations)}
            grouped = any(one.group for one in rule.destinations)
            if named & unread or (grouped and unread) or rule.project in self.unread["projects"]:
                continue  # what it names is told of already
            found = check_rule(rule, endpoints, self._borders())
            if rule.project not in projects:
                told = f"there is no project {rule.project!r}"
                found += (FieldProblem("project", told, suggest(rule.project, projects)),)
            elif not found:
                found = check_access(rule, projects[rule.project], endpoints)
            found = found or check_loops(rule, self.rules.values(), members)
            self._tell(("rules", name), found)
        self._check_pipelines(endpoints, projects)

    def _check_pipelines(
        self, endpoints: Mapping[str, RegistryEndpoint], projects: Mapping[str, Project]
    ) -> None:
        """Hold pipelines to the registries, borders and projects that they name; those that cannot be read are told of."""
        for name, pipeline in self.pipelines.items():
            self._check_secret(name, pipeline)
            named = {stage.registry for stage in pipeline.stages}
            if named & self.unread["registries"] or pipeline.project in self.unread["projects"]:
                continue
            if pipeline.project not in projects:
                told = f"there is no project {pipeline.project!r}"
                hint = suggest(pipeline.project, projects)
                self._tell(("pipelines", name), [FieldProblem("project", told, hint)])
                continue
            project = projects[pipeline.project]
            found = check_pipeline(pipeline, endpoints, project, self._borders())
            self._tell(("pipelines", name), found)

    def _check_secret(self, name: str, pipeline: Pipeline) -> None:
        """Refuse a pipeline that has something to sign, and nothing to sign it with: not here, nor on the server."""
        stored = self.documents["pipelines", name].get("secret") == MASK  # the sign that it stays
        if not pipeline.needs_secret or pipeline.secret_env or stored:
            return
        if name in self.outside.signed:
            return  # the server judges whether it may keep it
        told = f"is missing: pipeline {name} has a webhook, scan or after, and nothing to sign with"
        hint = (
            "write secret_env: TRANSSHIP_SECRET_NAME; or secret: {set: true}, and store one with "
            f"`transship pipelines put {name} -f FILE --secret-file FILE`"
        )
        self._tell(("pipelines", name), [FieldProblem("secret_env", told, hint)])

    def _borders(self) -> Borders:
        """Return the borders that regions here and outside draw; none while one could not be read."""
        if self.unread["regions"]:
            return NO_BORDERS
        here = {region.name: region.jurisdiction for region in self.regions.values()}
        return Borders({**self.outside.regions, **here})

    def _check_regions(self) -> None:
        """Hold links and nearer addresses to the regions; one that could not be read may be any."""
        if self.unread["regions"]:
            return
        declared = {*self.outside.regions, *self.regions}
        for name, link in self.links.items():
            self._tell(("links", name), check_link(link, declared))
        for name, endpoint in self.registries.items():
            self._tell(("registries", name), check_nearer(endpoint, declared))

    def _tell(self, key: tuple[str, str], problems: Iterable[FieldProblem]) -> None:
        reading, path = self.where[key]
        reading.tell(path, problems)


class _Reading:
    """One reading of one file: goes on after an error, so that all are told at once."""

    def __init__(self, source: str, lines: Lines, whole: _Whole) -> None:
        self.source = source
        self.lines = lines
        self.whole = whole
        whole.readings.append(self)

    def read(self, document: Any) -> None:
        top = self.attempt((), lambda: load(FileSchema(), document))
        if not isinstance(document, dict):
            return
        self.whole.gateways += "gateway" in document
        defaults = {} if top is None else _items_of(document, "defaults", {})
        for kind, load_one in (
            ("regions", load_region),
            ("links", load_link),
            ("projects", load_project),
        ):
            for index, item in enumerate(_items_of(document, kind, [])):
                self._object(kind, index, item, item, load_one)
        for index, item in enumerate(_items_of(document, "registries", [])):
            self._object(
                "registries",
                index,
                item,
                item,
                lambda one: load_registry(one, in_file=True).endpoint,
            )
        for index, item in enumerate(_items_of(document, "rules", [])):
            written = {**defaults, **item} if isinstance(item, dict) else item
            self._object(
                "rules",
                index,
                item,
                written,
                lambda one: load_rule(one, defaults, read_key=self.whole.read_key),
            )
        for index, item in enumerate(_items_of(document, "pipelines", [])):
            self._object(
                "pipelines",
                index,
                item,
                item,
                lambda one: load_pipeline(one, read_key=self.whole.read_key, in_file=True)[0],
            )

    def _object(
        self, kind: str, index: int, item: Any, written: Any, read: Callable[[Any], Any]
    ) -> None:
        path: Path = (kind, index)
        found = self.attempt(path, lambda: read(item))
        if found is None:
            name = item.get("name") if isinstance(item, dict) else None
            known = _NAME.fullmatch(name) if isinstance(name, str) else None
            self.whole.unread[kind].add(known[0] if known else "")
            return
        key = (kind, found.name)
        if key in self.whole.where:
            reading, first = self.whole.where[key]
            file, line = reading.place((*first, "from" if kind == "links" else "name"))
            where = f"in line {line}" if reading is self else f"in {file}, line {line}"
            told = f"{found.name!r} stands twice, first {where}"
            problem = FieldProblem("name", told, "rename one")
            if kind == "links":
                problem = FieldProblem("from", told, "leave one of them out")
            self.tell(path, [problem])
            return
        self.whole.where[key] = (self, path)
        kept = written
        if kind == "registries":
            kept = written_registry(written)
            if found.credentials.stored:  # the sign that a stored password stays
                kept["credentials"]["password"] = {"set": True}
        self.whole.documents[key] = kept
        getattr(self.whole, kind)[found.name] = found

    def place(self, path: Path) -> tuple[str, int | None]:
        """Return file and line of a path."""
        return self.source, line_of(self.lines, path)

    def tell(self, prefix: Path, problems: Iterable[FieldProblem]) -> None:
        for problem in problems:
            whole = under(prefix, problem.path)
            line = line_of(self.lines, (*prefix, *_keys(problem.path)))
            self.whole.problems.append(
                FieldProblem(whole, problem.message, problem.hint, line, self.source)
            )

    def attempt(self, prefix: Path, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InvalidFields as error:
            self.tell(prefix, error.problems)
            return None


def unset_variables(
    config: Config, environment: Mapping[str, str] | None = None
) -> list[FieldProblem]:
    """Return the variables that registries name as `password_env` and that are not set."""
    environment = os.environ if environment is None else environment
    found = []
    for endpoint in config.registries:
        file, line = config.places.get(("registries", endpoint.name), ("", None))
        hint = "the process that copies reads it: set it there"
        for place, spec in enumerate(endpoint.every_credential):
            variable = spec.password_env
            if variable is None or environment.get(variable):
                continue
            number = f"[{place}]" if endpoint.more_credentials else ""
            path = f"registries {endpoint.name}: credentials{number}.password_env"
            found.append(FieldProblem(path, f"{variable} is not set here", hint, line, file))
    return found


def _items_of(document: Mapping[str, Any], key: str, empty: Any) -> Any:
    items = document.get(key)
    return items if isinstance(items, type(empty)) else empty


def _keys(path: str) -> Path:
    """Take a spelled path apart again."""
    return tuple(
        int(match[2]) if match[2] is not None else match[1] for match in _KEY.finditer(path)
    )
