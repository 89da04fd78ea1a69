"""The rows of a rule that has served many registries for a while, written by one statement a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, text

from service.bootstrap import Services
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination
from service.store.creation import new_id
from tests.support.world import a_rule

REPOSITORY = "team/app"

_EXECUTION = text(
    "INSERT INTO executions (id, rule, trigger, spec, state, created_at, planned)"
    " SELECT :id, name, 'schedule', spec, 'succeeded', :at, :yes FROM rules WHERE name = 'fleet'"
)
_NUMBERS = (
    "WITH RECURSIVE numbers(n) AS"
    " (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :tags)"
)
_COPIES = text(
    "INSERT INTO copies (execution_id, rule, region, source_registry, source_repository,"
    " source_reference, destination_registry, destination_repository, destination_reference,"
    f" digest, state, updated_at) {_NUMBERS} SELECT :id, 'fleet', 'local', 'east', '{REPOSITORY}',"
    f" 'v' || n, name, 'mirror/{REPOSITORY}', 'v' || n, :digest, 'copied', :at"
    " FROM numbers, registries WHERE name <> 'east'"
)
_AGAIN = text(
    "INSERT INTO copies (execution_id, rule, region, source_registry, source_repository,"
    " source_reference, destination_registry, destination_repository, destination_reference,"
    " digest, state, updated_at) SELECT :id, 'fleet', 'local', 'east', "
    f"'{REPOSITORY}', :tag, name, 'mirror/{REPOSITORY}', :tag, :digest, 'copied', :at"
    " FROM registries WHERE name NOT IN ('east', 'west', :beside)"
)
_WRITTEN = text(
    f"INSERT INTO written_tags (registry, repository, tag, digest, rule, written_at) {_NUMBERS}"
    f" SELECT name, 'mirror/{REPOSITORY}', 'v' || n, :digest, 'fleet', :at"
    " FROM numbers, registries WHERE name <> 'east'"
)


@dataclass(frozen=True)
class ManyPlaces:
    """A rule from one registry to a group of others, and how often it has moved every tag."""

    registries: int = 40
    tags: int = 2000
    executions: int = 1

    def fill(self, services: Services, url: str = "https://registry.example") -> None:
        """Save registries, rule, executions, copies and what was written."""
        services.registries.put(RegistryEndpoint("east", url), document={})
        for number in range(self.registries):
            endpoint = RegistryEndpoint(f"r{number:02}", url, groups=("prod",))
            services.registries.put(endpoint, document={})
        destination = Destination(group="prod", repository="mirror/{repository}")
        services.rules.put(
            replace(a_rule("team/**"), destinations=(destination,)), document={"source": "east"}
        )
        services.database.write(self._write)

    def again(self, connection: Connection, *, beside: str, tag: str, number: int) -> None:
        """Save one more run, that moved one tag to every registry but one."""
        run = {"id": new_id(), "digest": f"sha256:{number:064x}", "at": 1.7e9}
        connection.execute(_EXECUTION, {**run, "yes": True})
        connection.execute(_AGAIN, {**run, "beside": beside, "tag": tag})

    def _write(self, connection: Connection) -> None:
        values = {"tags": self.tags, "at": 1.7e9}
        for number in range(self.executions):
            digest = f"sha256:{number:064x}"
            run = {**values, "id": new_id(), "digest": digest, "yes": True}
            connection.execute(_EXECUTION, run)
            connection.execute(_COPIES, run)
        connection.execute(_WRITTEN, {**values, "digest": digest})
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))
