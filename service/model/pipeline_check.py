"""What must hold between a pipeline and the registries, borders and project that it names."""

from __future__ import annotations

from collections.abc import Mapping

from service.errors import FieldProblem
from service.model.borders import NO_BORDERS, Borders
from service.model.endpoint import RegistryEndpoint
from service.model.pipeline import Pipeline
from service.model.project import Project, check_access
from service.model.rule_check import check_rule


def check_pipeline(
    pipeline: Pipeline,
    endpoints: Mapping[str, RegistryEndpoint],
    project: Project,
    borders: Borders = NO_BORDERS,
) -> tuple[FieldProblem, ...]:
    """Return what is wrong: each stage is held to what a rule from the stage before it would be held to.

    What it copies over a border is named one by one, so that no border stands in its way.
    """
    found: dict[str, FieldProblem] = {}
    for index, rule in pipeline.rules():
        for one in check_rule(rule, endpoints, borders) or check_access(rule, project, endpoints):
            at = index - 1 if one.path == "source" else index
            key = one.path.rpartition(".")[2] if "." in one.path else ""
            key = "registry" if one.path == "source" else key
            path = f"stages[{at}]{f'.{key}' if key else ''}"
            found.setdefault(f"{path} {one.message}", FieldProblem(path, one.message, one.hint))
    return tuple(found.values())
