"""transship demo: two sample registries, a sample fleet, and one rule carried out before your eyes."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from api.cli import exits
from api.cli.progress import show, size
from api.cli.summary import print_summary
from api.cli.up import tell, wait_for_signal
from api.engine.up import Up
from api.samples.fleet import push_fleet
from api.samples.fleet_plan import DEMO_FLEET
from service.errors import EngineError
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import ENDED_EXECUTIONS
from service.replication.report import report
from service.store.executions import Totals

START_SECONDS = 15.0


@click.command()
@click.option(
    "--listen", default="127.0.0.1:0", help="Of API and console; port 0 takes a free one."
)
@click.option("--stay/--exit", default=None, help="Go on serving afterwards; stay on a terminal.")
def demo(listen: str, stay: bool | None) -> None:
    """Copy a sample fleet between two sample registries, and show where to look."""
    stopped = wait_for_signal()
    data = Path(tempfile.mkdtemp(prefix="transship-demo-"))
    engine: Up | None = None
    try:
        engine = Up(data, listen=listen, flower_listen="127.0.0.1:0", workers=1, command="demo")
        addresses = engine.start()
        urls = {name: _registry(engine, name) for name in ("east", "west")}
        click.echo(f"sample registries: east {urls['east']}, west {urls['west']}", err=True)
        fleet = push_fleet(urls["east"], DEMO_FLEET)
        click.echo(
            f"sample fleet: {fleet.tags} tags in {fleet.repositories} repositories, "
            f"{size(fleet.unique_bytes)} of unique blobs",
            err=True,
        )
        code = _carry_out(engine, urls)
        tell(addresses)
        if stay if stay is not None else sys.stderr.isatty():
            click.echo("press Ctrl-C to stop", err=True)
            stopped.wait()
        else:
            click.echo("the demo ends here; with --stay it goes on serving all this", err=True)
    finally:
        if engine is not None:
            engine.stop()
        shutil.rmtree(data, ignore_errors=True)
    sys.exit(code)


def _registry(engine: Up, name: str) -> str:
    """Start a sample registry and return its address."""
    ready = engine.machine.data.path / f"{name}.address"
    engine.machine.start_child(
        name,
        [
            sys.executable, "-m", "api.samples.registry",
            "--listen", "127.0.0.1:0", "--ready-file", str(ready),
        ],
    )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if time.monotonic() > deadline:
            raise EngineError(f"the sample registry {name} does not start")
        time.sleep(0.02)
    return ready.read_text(encoding="ascii").strip()


def _carry_out(engine: Up, urls: dict[str, str]) -> int:
    services = engine.machine.services
    for name, url in urls.items():
        services.registries.put(
            RegistryEndpoint(name=name, url=url), document={"name": name, "url": url}
        )
    rule = SyncRule(
        name="demo",
        source="east",
        select=(Selection(repositories=NameFilter(include=("**",))),),
        destinations=(Destination(registry="west", repository="mirror/{repository}"),),
    )
    document = {
        "name": "demo",
        "source": "east",
        "select": [{"repositories": ["**"]}],
        "destinations": [{"registry": "west", "repository": "mirror/{repository}"}],
    }
    services.rules.put(rule, document=document)
    began = time.monotonic()
    execution = services.executions.create(rule, trigger="demo").id
    with show() as progress:
        while True:
            record = services.executions.get(execution)
            progress([record], services.executions.totals(execution) or Totals())
            if record.state in ENDED_EXECUTIONS:
                break
            time.sleep(0.1)
    result = report(services.executions, [execution], time.monotonic() - began)
    print_summary(result)
    return exits.of_report(result)
