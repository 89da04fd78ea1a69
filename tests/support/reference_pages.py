"""The generated pages of docs/reference: `python -m tests.support.reference_pages` writes them.

tests/unit/test_reference_pages.py fails while a page lags behind the code.
"""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from api.app import create_app
from api.openapi import routes
from service.bootstrap import Services, open_services
from service.model.provider import Capabilities, Offers
from service.registry.providers.table import PROVIDERS
from service.replication.gateway.figures import GatewayFigures
from service.replication.metrics import Metrics
from service.replication.process_metrics import ProcessFigures
from service.replication.state_metrics import state_gauges
from service.settings import Settings
from service.store.figures import FigureStore
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from tests.contract import claims
from tests.support.helm import values_schema
from workers.scheduler_metrics import SchedulerMetrics

HELP: dict[str, Any] = {"terminal_width": 100, "help_option_names": ["-h", "--help"]}
FOLDER = Path(__file__).parents[2] / "docs/reference"


def environment() -> str:
    """Every variable, from service/settings.py."""
    lines = [
        "# Environment",
        "",
        "*Generated from `service/settings.py` by `make docs`.*",
        "",
        "Every process of a fleet gets the same variables; an empty one counts as not set. `transship up`,",
        "`copy` and `sync` set what they need by themselves.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for item in fields(Settings):
        default = "" if item.default == "" else f"`{str(item.default).lower()}`"
        if not isinstance(item.default, bool) and item.default != "":
            default = f"`{item.default}`"
        lines.append(
            f"| `TRANSSHIP_{item.name.upper()}` | {default} | {_cell(item.metadata['doc'])} |"
        )
    lines += [
        "",
        "Beside them: `TRANSSHIP_SECRET_*` hold passwords that registries name as `password_env`, and",
        "`TRANSSHIP_URL` with `TRANSSHIP_TOKEN` point the command line at a server.",
        "",
    ]
    return "\n".join(lines)


def api() -> str:
    """Every route with its role and answers."""
    lines = [
        "# API",
        "",
        "*Generated from the routes by `make docs`; `/openapi.json` and `/docs` of a running server have the",
        "schemas.*",
        "",
        "Send `Authorization: Bearer TOKEN`. A role may do what is asked of the roles before it: viewer,",
        "operator, admin. Bodies are strict JSON (`application/json`, at most 1 MB, no doubled keys). Errors",
        "are problem documents (RFC 9457) with `code`, `detail`, `hint`, and `errors` for each wrong field.",
        "Lists have `items` and `next`; `next` goes into `?cursor=` and stands in a `Link` header, too.",
        "`PUT` takes `If-Match` with the ETag that was read (412 when it is stale) or `If-None-Match: *`.",
        "",
        "| route | role | what | answers |",
        "|---|---|---|---|",
    ]
    app = create_app(Services(Settings()))
    for (path, method), described in sorted(routes(app).items()):
        extras = [f"`?{name}=`" for name in described.query]
        extras += [f"`{name}`" for name in described.headers]
        what = described.summary + (f" ({', '.join(extras)})" if extras else "")
        answers = ", ".join(str(status) for status in described.results)
        lines.append(
            f"| `{method.upper()} {path}` | {described.role or 'none'} | {_cell(what)} | {answers} |"
        )
    lines += [
        "",
        "## Example",
        "",
        "```console",
        'auth="Authorization: Bearer $(cat data/admin.token)"',
        "json='Content-Type: application/json'",
        "api=http://127.0.0.1:8470/api/v1",
        'curl -H "$auth" -H "$json" -X PUT $api/registries/east -d \'{"url": "http://127.0.0.1:5000"}\'',
        'curl -H "$auth" -H "$json" -X PUT $api/registries/west -d \'{"url": "http://127.0.0.1:5001"}\'',
        'curl -H "$auth" -H "$json" -X PUT $api/rules/fleet -d \'{',
        '  "source": "east",',
        '  "select": [{"repositories": ["**"]}],',
        '  "destinations": [{"registry": "west"}]}\'',
        'curl -H "$auth" -X POST $api/rules/fleet/executions',
        'curl -H "$auth" -N $api/executions/ID/events',
        "```",
        "",
    ]
    return "\n".join(lines)


def command_line() -> str:
    """Every command's help."""
    main = importlib.import_module("api.cli.main")
    lines = [
        "# Command line",
        "",
        "*Generated from the commands' own help by `make docs`.*",
        "",
        "Exit codes: 0 as the rule says; 1 the destination is not as the rule says; 2 usage, configuration,",
        "or refused before anything was written; 3 unknown, or unreachable; 130 interrupted. `--json` prints",
        "one object on stdout, everything else goes to stderr.",
        "",
    ]
    for words, command in _commands(main.cli, ["transship"]):
        context = click.Context(command, info_name=" ".join(words), **HELP)
        lines += [f"## {' '.join(words)}", "", "```text", _help(command, context), "```", ""]
    return "\n".join(lines)


def providers() -> str:
    """Every provider, from its row and its strategies."""
    offered = [item.name for item in fields(Offers)]
    titles = {"listing": "list"}
    lines = [
        "# Providers",
        "",
        "*Generated from `service/registry/providers` by `make docs`.*",
        "",
        "`provider` of a registry is one of these names, or `auto`. *yes*: done here; *no*: the provider cannot;",
        "*not offered*: it has no such step; *not built yet*: the provider can, and this version does not do it: where it",
        "would be needed, an error says so. *run against*: `contract` is a fake written from the provider's",
        "documentation (`tests/contract`); `the sample registry` is Transship's own, of OCI 1.1, in place of one that is not to be",
        "had here: every *yes* is by the distribution API as all registries have it. *yes (generic)*: nothing of the provider's own is",
        "needed for it; its test passes with `provider: generic`, too. `transship doctor REGISTRY` checks yours.",
        "",
        f"| name | service | {' | '.join(titles.get(name, name) for name in offered)} | run against |",
        f"|---|---|---|{'---|' * len(offered)}",
    ]
    for row in PROVIDERS.values():
        cells = " | ".join(claims.cell(row, name) for name in offered)
        lines.append(f"| `{row.name}` | {row.title} | {cells} | {row.proof} |")
    lines += [
        "",
        "Where they differ on the distribution API, and can be overridden by a registry's `capabilities`:",
        "",
        f"| name | {' | '.join(f'`{item.name}`' for item in fields(Capabilities))} | before the first push |",
        f"|---|{'---|' * len(fields(Capabilities))}---|",
    ]
    for row in PROVIDERS.values():
        cells = " | ".join(
            _shown(getattr(row.capabilities, item.name)) for item in fields(Capabilities)
        )
        lines.append(f"| `{row.name}` | {cells} | {row.namespace} |")
    lines += ["", *(f"- `{row.name}`: {row.notes}" for row in PROVIDERS.values() if row.notes), ""]
    lines += [*_proofs(), ""]
    return "\n".join(lines)


def metrics() -> str:
    """Every family of metrics, from the collectors of each process over an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        write_new_key(Path(folder) / "keys")
        settings = Settings(
            database_url=f"sqlite:///{folder}/transship.db", secret_key_file=f"{folder}/keys"
        )
        services = open_services(settings, check=False)
        create_or_upgrade(services.database)
        worker = Metrics().registry
        worker.register(ProcessFigures(None, tuple, 0))
        scheduler = SchedulerMetrics(services, lambda _region: {}).registry
        gateway = GatewayFigures().registry
        shown = {
            "api": list(state_gauges(FigureStore(services.database))),
            "scheduler": list(scheduler.collect()),
            "worker": list(worker.collect()),
            "gateway": list(gateway.collect()),
        }
        counters = {
            **scheduler._names_to_collectors,
            **worker._names_to_collectors,
            **gateway._names_to_collectors,
        }
        services.close()
    lines = [
        "# Metrics",
        "",
        "*Generated from the collectors by `make docs`.*",
        "",
        "Worker, scheduler and gateway show theirs at `http://TRANSSHIP_METRICS_LISTEN/metrics`, the API at its own `/metrics`; see",
        "[watch a fleet](../how-to/watch.md). Labels are names that an administrator has given and closed lists, never a",
        "repository, a tag or a digest.",
        "",
        "| metric | labels | type | of | what |",
        "|---|---|---|---|---|",
    ]
    rows: dict[str, tuple[str, str, str, list[str]]] = {}
    for process, families in shown.items():
        for family in families:
            name = family.name + ("_total" if family.type == "counter" else "")
            labels: Any = getattr(family, "_labelnames", None)
            if labels is None:
                labels = getattr(counters[family.name], "_labelnames")  # noqa: B009
            told = ", ".join(f"`{label}`" for label in labels)
            rows.setdefault(name, (told, family.type, family.documentation, []))[3].append(process)
    lines += [
        f"| `{name}` | {labels} | {kind} | {', '.join(of)} | {text} |"
        for name, (labels, kind, text, of) in sorted(rows.items())
    ]
    return "\n".join([*lines, ""])


def _proofs() -> list[str]:
    """Name the test of every yes."""
    elsewhere = [
        f"- `{name}`, {column}: `{node}`" for (name, column), node in claims.ELSEWHERE.items()
    ]
    real = [
        f"- `distribution`, {column}: `{node}`" for column, node in claims.AT_REAL_SERVERS.items()
    ]
    return [
        "## The test of each yes",
        "",
        "A *yes* of a row that was run against a contract, or against the sample registry, is a test that moves bytes, or",
        "changes what stands, there:",
        f"`{claims.PROOFS}[NAME-COLUMN]`, as in `[harbor-create]`; the column `list` is `listing`",
        "there. `test_generic_fails_where_the_provider_has_its_own_way_only` runs each of them once more as `generic`: a plain",
        "*yes* has to fail then, a *yes (generic)* has to pass; where none of the provider's own can be missed,",
        "`test_server_that_only_says_yes_is_not_enough` runs it at a server that says yes and does nothing, where it has to",
        f"fail. The test of *events* is `{claims.HOOKS}[NAME]`: a",
        "running service is told in the provider's words, and the tag is at the destination; told as any registry would tell,",
        "it is not.",
        "",
        "Tests of another shape, which fail as `generic`, too, and those of `distribution` at real servers:",
        "",
        *elsewhere,
        *real,
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "any" if value is None else str(value)


def _help(command: click.Command, context: click.Context) -> str:
    vars(command)["_help_option"] = (
        None  # click keeps it with the names that it was first asked with
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _commands(group: click.Group, words: list[str]) -> list[tuple[list[str], click.Command]]:
    found: list[tuple[list[str], click.Command]] = []
    context = click.Context(group, info_name=words[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        here = [*words, name]
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                found.append((here, command))
            found += _commands(command, here)
        else:
            found.append((here, command))
    return found


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


PAGES = {
    "environment.md": environment,
    "api.md": api,
    "cli.md": command_line,
    "providers.md": providers,
    "metrics.md": metrics,
    "../../deploy/helm/transship/values.schema.json": values_schema,
}


def main() -> None:
    """Write all pages."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    main()
