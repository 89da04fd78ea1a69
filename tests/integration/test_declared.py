"""apply, diff, export: files against the API as a process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner

REGISTRIES = """\
version: 1
registries:
  - &east {name: east, url: "https://east.example", groups: [prod]}
  - {<<: *east, name: west, url: "https://west.example"}
"""
RULES = """\
version: 1
defaults: {priority: bulk}
rules:
  - name: fleet
    source: east
    select:
      - repositories: ["team*/**"]
        tags: {include: ["v*", "1.10"], exclude: ["*-rc*"]}
    destinations: [{registry: west, repository: "mirror/{repository}"}]
"""
PROJECT = """\
version: 1
projects:
  - {name: team-a, read: {east: ["team-a/**"]}, write: {west: ["mirror/team-a/**"]}}
rules:
  - name: own
    project: team-a
    source: east
    select: [{repositories: ["team-a/**"]}]
    destinations: [{registry: west, repository: "mirror/{repository}"}]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    (tmp_path / "api").mkdir()
    made = ApiProcess(tmp_path / "api")
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


@pytest.fixture
def run(
    server: ApiProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return runner(server, monkeypatch, capsys)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "registries.yaml").write_text(REGISTRIES)
    (folder / "rules.yml").write_text(RULES)
    (folder / "project.yaml").write_text(PROJECT)
    (folder / "notes.txt").write_text("not read")
    return folder


def actions(said: list[dict[str, str]]) -> dict[str, str]:
    return {f"{change['kind']}/{change['name']}": change["action"] for change in said}


def test_files_of_a_directory_are_applied_as_one(run: Run, files: Path) -> None:
    first = run("apply", "-f", str(files), "--json")
    second = run("apply", "-f", str(files / "rules.yml"), "-f", str(files / "project.yaml"))

    assert first.code == 0, first.err
    assert actions(first.json["changes"]) == {
        "registries/east": "created",
        "registries/west": "created",
        "projects/team-a": "created",
        "rules/fleet": "created",
        "rules/own": "created",
    }
    assert second.code == 0, second.err
    assert set(second.out.splitlines()) == {
        "projects/team-a unchanged",
        "rules/own unchanged",
        "rules/fleet unchanged",
    }


def test_what_was_written_survives_and_export_differs_in_nothing(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("apply", "-f", str(files))
    shown = run("rules", "show", "fleet").json
    text = run("export").out
    one = run("export", "--rule", "fleet").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    same = run("diff", "-f", "-")

    assert shown["select"][0]["repositories"] == ["team*/**"]
    assert shown["select"][0]["tags"]["include"] == ["v*", "1.10"]
    assert (same.code, same.out, same.err) == (0, "", "")
    assert "rules:" in one
    assert "registries:" not in one
    (tmp_path / "all.yaml").write_text(text)
    assert run("validate", "-f", str(tmp_path / "all.yaml")).code == 0


def test_stored_password_is_exported_as_a_sign_and_kept(
    run: Run, server: ApiProcess, files: Path, tmp_path: Path
) -> None:
    run("apply", "-f", str(files))
    credentials = {"username": "robot", "password_file": "east"}
    assert server.services.registries.get("east").version == 1
    body = {"url": "https://east.example", "groups": ["prod"], "credentials": credentials}
    status, told = server.ask("PUT", "/api/v1/registries/east", body)
    assert status == 400, told  # the server has no TRANSSHIP_SECRETS_DIR
    text = run("export", "--registry", "east").out
    kept = tmp_path / "kept.yaml"
    kept.write_text(
        text.replace("url:", "credentials: {username: robot, password: {set: true}}\n  url:")
    )

    refused = run("apply", "-f", str(kept))
    local = run("sync", "-f", str(kept), "--local")

    assert refused.code == 2
    assert "there is no stored password" in refused.err or "no stored password" in refused.err
    assert local.code == 2


def test_difference_is_shown_by_line_and_by_field(run: Run, files: Path) -> None:
    run("apply", "-f", str(files))
    (files / "rules.yml").write_text(RULES.replace("bulk", "urgent") + "    referrers: false\n")

    lines = run("diff", "-f", str(files))
    fields = run("diff", "-f", str(files), "--json")

    assert (lines.code, fields.code) == (1, 1)
    assert "--- server/rules/fleet" in lines.out
    assert "-priority: bulk" in lines.out
    assert "+priority: urgent" in lines.out
    assert fields.json["changes"] == [
        {
            "kind": "rules",
            "name": "fleet",
            "action": "replaced",
            "fields": [
                {"field": "priority", "server": "bulk", "file": "urgent"},
                {"field": "referrers", "server": None, "file": False},
            ],
        }
    ]
    assert run("rules", "show", "fleet").json["priority"] == "bulk"


def test_prune_deletes_only_what_its_own_set_owns(run: Run, files: Path) -> None:
    (files / "project.yaml").unlink()
    assert run("apply", "-f", str(files / "registries.yaml")).code == 0
    one, two = files / "rules.yml", files / "two.yaml"
    two.write_text(RULES.replace("name: fleet", "name: other"))
    assert run("apply", "-f", str(one), "--set", "one").code == 0
    assert run("apply", "-f", str(two), "--set", "two").code == 0
    empty = files / "empty.yaml"
    empty.write_text("version: 1\n")

    stranger = run("apply", "-f", str(one), "--set", "two")
    planned = run("apply", "-f", str(empty), "--prune", "--set", "one", "--dry-run", "--json")
    shown = run("diff", "-f", str(empty), "--prune", "--set", "one")
    done = run("apply", "-f", str(empty), "--prune", "--set", "one", "--json")
    left = run("rules", "ls", "--json").json["items"]

    assert stranger.code == 2
    assert "belongs to the set one" in stranger.err
    assert planned.json["changes"] == done.json["changes"]
    assert actions(done.json["changes"]) == {"rules/fleet": "deleted"}
    assert (shown.code, "-name: fleet" in shown.out) == (1, True)
    assert [(rule["name"], rule["set"]) for rule in left] == [("other", "two")]
    assert len(run("registries", "ls", "--json").json["items"]) == 2
    assert run("apply", "-f", str(empty), "--prune").code == 2


def test_objects_that_leave_together_go_in_an_order_that_works(run: Run, files: Path) -> None:
    assert run("apply", "-f", str(files), "--set", "all").code == 0
    empty = files / "nothing.yaml"
    empty.write_text("version: 1\n")

    done = run("apply", "-f", str(empty), "--prune", "--set", "all")

    assert done.code == 0, done.err
    assert run("export").out == "version: 1\n"


def test_project_and_its_rule_shrink_together(run: Run, files: Path) -> None:
    run("apply", "-f", str(files))
    (files / "project.yaml").write_text(PROJECT.replace("team-a/**", "team-a/x/**"))
    text = (files / "project.yaml").read_text()
    (files / "project.yaml").write_text(
        text.replace('repositories: ["team-a/x/**"]', 'repositories: ["team-a/x/app"]')
    )

    done = run("apply", "-f", str(files), "--json")

    assert done.code == 0, done.err
    assert actions(done.json["changes"])["projects/team-a"] == "replaced"


def test_rule_beyond_its_project_is_told_by_file_and_line_before_anything_is_written(
    run: Run, files: Path
) -> None:
    (files / "project.yaml").write_text(PROJECT.replace('"mirror/{repository}"', "all/app"))

    said = run("apply", "-f", str(files))

    assert said.code == 2
    assert "project.yaml:9: rules[0].destinations[0]" in said.err
    assert "project team-a may not write west/all/app" in said.err
    assert run("export").out == "version: 1\n"


def test_names_that_stand_in_two_files_are_told_with_both(run: Run, files: Path) -> None:
    (files / "z.yaml").write_text(RULES)

    said = run("apply", "-f", str(files))

    assert said.code == 2
    assert "z.yaml:4: rules[0].name" in said.err
    assert "rules.yml, line 4" in said.err


def test_name_that_was_probably_meant_is_told(run: Run, files: Path) -> None:
    run("apply", "-f", str(files))

    assert "did you mean 'fleet'?" in run("rules", "run", "flet").err
    assert "did you mean 'east'?" in run("registries", "show", "eats").err
    assert "did you mean 'team-a'?" in run("projects", "show", "team").err


def test_variables_that_are_not_set_are_told(
    run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_SET", "x")
    registry = '{name: east, url: "https://east.example", credentials: {username: u, password_env: '
    text = REGISTRIES.replace(
        '{name: east, url: "https://east.example"', registry + "TRANSSHIP_SECRET_NONE}"
    )
    (files / "registries.yaml").write_text(text)

    checked = run("validate", "-f", str(files))
    as_json = run("validate", "-f", str(files), "--json")
    refused = run("sync", "-f", str(files), "--local")

    assert checked.code == 0
    assert "registries.yaml:3" in checked.err
    assert "TRANSSHIP_SECRET_NONE is not set" in checked.err
    assert len(as_json.json["warnings"]) == 2  # west has it, too, by the alias
    assert refused.code == 2
    assert "registries.yaml:3: " in refused.err
    assert "TRANSSHIP_SECRET_NONE" in refused.err
    assert "engine on this machine" not in refused.err
    monkeypatch.setenv("TRANSSHIP_SECRET_NONE", "x")
    assert run("validate", "-f", str(files)).err == ""


def test_pipeline_without_a_secret_is_refused_by_name_and_line(run: Run, tmp_path: Path) -> None:
    """Without a server as with one; what a file says of a gateway is counted, too."""
    text = (
        "version: 1\n"
        "registries:\n"
        "- {name: east, url: 'https://east.example'}\n"
        "- {name: west, url: 'https://west.example'}\n"
        "gateway: {names: [{registry: east}]}\n"
        "pipelines:\n"
        "- name: shop\n"
        "  stages:\n"
        "  - {name: dev, registry: east}\n"
        "  - {name: prod, registry: west, after: {webhook: 'https://deploy.example/'}}\n"
    )
    file = tmp_path / "transship.yaml"
    file.write_text(text)

    refused = run("validate", "-f", str(file))

    assert refused.code == 2
    assert "transship.yaml:7: pipelines[0].secret_env: is missing: pipeline shop" in refused.err
    assert "write secret_env: TRANSSHIP_SECRET_NAME" in refused.err
    assert "pipelines put shop" in refused.err
    for said in ("secret_env: TRANSSHIP_SECRET_SHOP", "secret: {set: true}"):
        file.write_text(f"{text}  {said}\n")
        assert run("validate", "-f", str(file)).out == (
            "valid: 2 registries, 0 rules, 1 pipeline, 1 gateway\n"
        )


def test_timeout_that_is_none_is_refused_before_anything_is_sent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens there: what was sent would end in exit code 3. All commands: tests/unit/api/cli/test_options.py."""
    monkeypatch.setenv("TRANSSHIP_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRANSSHIP_TOKEN", "tsp_x")

    refused = run("promote", "shop", "web:v1", "--to", "prod", "--wait", "--timeout", "bogus")

    assert refused.code == 2
    assert "write 30s, 5m or 1h" in refused.err


def test_server_that_is_half_named_is_told_how_to_name_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_TOKEN", "tsp_x")
    monkeypatch.delenv("TRANSSHIP_URL", raising=False)

    said = run("rules", "ls")

    assert said.code == 2
    assert "TRANSSHIP_URL is not set" in said.err
    assert "--data" in said.err


def test_circle_that_comes_to_rest_is_told(run: Run, tmp_path: Path) -> None:
    rules = [
        {"name": name, "source": here, "select": [{"repositories": ["**"]}], "destinations": to}
        for name, here, to in (
            ("there", "east", [{"registry": "west"}]),
            ("back", "west", [{"registry": "east"}]),
        )
    ]
    places = [{"name": name, "url": f"https://{name}.example"} for name in ("east", "west")]
    file = tmp_path / "circle.yaml"
    file.write_text(json.dumps({"version": 1, "registries": places, "rules": rules}))

    checked = run("validate", "-f", str(file))

    assert (checked.code, checked.err.count("warning: ")) == (0, 1)
    assert "lead in a circle: it comes to rest" in checked.err


def test_data_folder_of_a_stopped_up_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(json.dumps({"api": "http://127.0.0.1:1"}))
    (tmp_path / "admin.token").write_text("tsp_x\n")
    (tmp_path / "engine.lock").write_text("")

    said = run("rules", "ls", "--data", str(tmp_path))

    assert said.code == 2
    assert "is not running" in said.err
    assert "TRANSSHIP_URL" not in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(run: Run, shell: str) -> None:
    assert "_TRANSSHIP_COMPLETE" in run("completion", shell).out


def test_completion_knows_the_commands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TRANSSHIP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "transship executions re")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert "plain,retry" in run().out


def test_unknown_route_says_what_there_is(server: ApiProcess) -> None:
    status, body = server.ask("GET", "/api/v1/rule")
    other, told = server.ask("GET", "/api/v1/rules/x/y/z")

    assert (status, other) == (404, 404)
    assert "did you mean '/api/v1/rules'?" in body["hint"]
    assert body["detail"] == "there is no route /api/v1/rule"
    assert "executions" in told["hint"]


REGIONS = """\
version: 1
regions:
  - {name: us-east, jurisdiction: us}
  - {name: eu-west, jurisdiction: eu}
links:
  - {from: us-east, to: eu-west, bandwidth: 200Mbit/s, cost_per_gib: 0.02}
registries:
  - name: north
    url: https://north.example
    region: us-east
    endpoints: {eu-west: {connect_to: "10.1.0.5:443"}}
"""


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    file = tmp_path / "atlas.yaml"
    file.write_text(REGIONS)
    return file


def test_regions_and_links_come_before_registries_and_go_after_them(run: Run, atlas: Path) -> None:
    empty = atlas.with_name("empty.yaml")
    empty.write_text("version: 1\n")

    planned = run("apply", "-f", str(atlas), "--set", "atlas", "--dry-run")
    first = run("apply", "-f", str(atlas), "--set", "atlas", "--json")
    second = run("apply", "-f", str(atlas), "--set", "atlas")
    pruned = run("apply", "-f", str(empty), "--prune", "--set", "atlas", "--json")

    assert planned.out.splitlines() == [
        "regions/us-east would be created",
        "regions/eu-west would be created",
        "links/us-east:eu-west would be created",
        "registries/north would be created",
    ]
    assert first.code == 0, first.err
    assert set(actions(first.json["changes"]).values()) == {"created"}
    assert set(second.out.split()) >= {"unchanged"}
    assert "created" not in second.out
    assert [f"{one['kind']}/{one['name']}" for one in pruned.json["changes"]] == [
        "registries/north",
        "links/us-east:eu-west",
        "regions/eu-west",
        "regions/us-east",
    ]
    assert pruned.code == 0, pruned.err
    assert run("export").out == "version: 1\n"


def test_regions_and_links_are_exported_and_differ_in_nothing(run: Run, atlas: Path) -> None:
    run("apply", "-f", str(atlas))
    run("apply", "-f", str(atlas))  # a region of a registry that is not declared is not exported
    text = run("export").out
    atlas.write_text(text)

    same = run("diff", "-f", str(atlas))
    atlas.write_text(text.replace("200Mbit/s", "300Mbit/s"))
    other = run("diff", "-f", str(atlas))
    one = run("export", "--link", "us-east:eu-west", "--region", "us-east").out

    assert (same.code, same.out, same.err) == (0, "", "")
    assert other.code == 1
    assert "--- server/links/us-east:eu-west" in other.out
    assert "+bandwidth: 300Mbit/s" in other.out
    assert "registries" not in one
    assert "from: us-east" in one
    assert run("validate", "-f", str(atlas), "--json").json["links"] == 1


def test_file_may_name_regions_that_the_server_has(run: Run, atlas: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.write_text("version: 1\nlinks:\n  - {from: eu-west, to: us-east}\n")

    alone = run("apply", "-f", str(link))
    run("apply", "-f", str(atlas))
    known = run("apply", "-f", str(link))

    assert alone.code == 2
    assert "link.yaml:3: links[0].from: there is no region 'eu-west'" in alone.err
    assert known.out == "links/eu-west:us-east created\n"


def test_regions_and_links_are_listed_shown_and_forgotten(run: Run, atlas: Path) -> None:
    run("apply", "-f", str(atlas))

    regions = run("regions", "ls")
    links = run("links", "ls")
    link = run("links", "show", "us-east:eu-west").json
    kept = run("regions", "delete", "us-east")
    gone = run("links", "delete", "us-east:eu-west")

    lines = [line.split() for line in regions.out.splitlines()]
    assert lines[0][:4] == ["NAME", "JURISDICTION", "WORKERS", "SLOTS"]
    assert lines[1][:4] == ["eu-west", "eu", "0", "0"]
    assert "us-east:eu-west" in links.out
    assert "200Mbit/s" in links.out
    assert link["effective"] == {
        "from": "us-east",
        "to": "eu-west",
        "bandwidth": "25MB/s",
        "cost_per_gib": 0.02,
    }
    assert kept.code == 2
    assert "registry north" in kept.err
    assert gone.code == 0
    assert run("links", "ls", "--json").json["items"] == []
    assert run("regions", "show", "us-east").json["declared"] is True
    assert "did you mean 'us-east'?" in run("regions", "show", "us-eats").err
