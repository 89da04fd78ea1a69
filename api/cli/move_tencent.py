"""transship migrate ccr-to-tcr: a whole account of Tencent's personal registry moves to an instance of TCR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from api.cli.moves import PATH, Wanted, common, move
from service.errors import InvalidConfiguration


@click.command("ccr-to-tcr")
@click.option("--ccr-region", default="ap-guangzhou", show_default=True, help="Where CCR is.")
@click.option("--ccr-url", help="CCR's address, instead of the region's.")
@click.option("--ccr-user", help="The account's number: CCR's user name.")
@click.option("--ccr-password-env", help="The variable with CCR's password.")
@click.option("--ccr-password-file", type=PATH, help="The file with CCR's password.")
@click.option("--tcr-name", help="The name of the TCR instance.")
@click.option("--tcr-url", help="TCR's address, such as a private one, instead of the name's.")
@click.option(
    "--secret-id-env",
    help="The variable with the SecretId; TENCENTCLOUD_SECRET_ID when neither is given.",
)
@click.option("--secret-id-file", type=PATH, help="The file with the SecretId.")
@click.option(
    "--secret-key-env",
    help="The variable with the SecretKey; TENCENTCLOUD_SECRET_KEY when neither is given.",
)
@click.option("--secret-key-file", type=PATH, help="The file with the SecretKey.")
@click.option("--tcr-secret-id-env", help="Likewise of TCR's account, where it is another one.")
@click.option("--tcr-secret-id-file", type=PATH)
@click.option("--tcr-secret-key-env")
@click.option("--tcr-secret-key-file", type=PATH)
@click.option(
    "--secret-file",
    type=PATH,
    help="image-transfer's secret file, with both API keys, instead of the options for them.",
)
@click.option(
    "--security-file",
    type=PATH,
    help="image-transfer's security file, with CCR's user and password, instead of the options for them.",
)
@click.option("--ccr-api-url", hidden=True)
@click.option("--tcr-api-url", hidden=True)
@click.option(
    "--newest",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="Of each repository so many tags, those that were pushed last.",
)
@click.option("--all-tags", is_flag=True, help="All tags, however many.")
@common
def ccr_to_tcr(
    ccr_region: str,
    ccr_url: str | None,
    ccr_user: str | None,
    secret_file: Path | None,
    security_file: Path | None,
    tcr_name: str | None,
    tcr_url: str | None,
    ccr_api_url: str | None,
    tcr_api_url: str | None,
    newest: int,
    all_tags: bool,
    **more: Any,
) -> None:
    """Move a whole Tencent CCR account to a TCR instance: namespaces and repositories are made where they miss.

    Secrets come by the environment or from files, never as arguments: the API key lists CCR and makes what TCR
    lacks, CCR's user and password pull.
    """
    from api.engine import tencent

    if (tcr_name is None) == (tcr_url is None):
        raise click.UsageError("give --tcr-name NAME, or --tcr-url URL")
    if newest == 0 and not all_tags:
        raise click.UsageError("--newest 0 would move nothing: --all-tags moves all of them")
    url = ccr_url or tencent.ccr_url(ccr_region)
    own, other = _keys(more, secret_file)
    user, password = _login(more, ccr_user, security_file, url)
    ends = tencent.Tencent(
        user,
        password,
        own,
        other,
        url,
        tcr_url or f"https://{tcr_name}.tencentcloudcr.com",
        ccr_api_url,
        tcr_api_url,
    )
    wanted = Wanted(newest=None if all_tags else newest, **more)
    move(wanted, {"registries": tencent.registries(ends)}, "ccr", "tcr")


def _keys(more: dict[str, Any], file: Path | None) -> tuple[Any, Any]:
    """Return the API keys of CCR and TCR, out of options or of image-transfer's file."""
    usual = None if file is not None else ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY")
    own, other = _key(more, "", usual), _key(more, "tcr_", None)
    if file is not None:
        if own is not None or other is not None:
            raise click.UsageError("--secret-file, or the options for each part, not both")
        from api.importers.quick_mode import keys

        return keys(str(file))
    if own is None:
        raise InvalidConfiguration(
            "the SecretId and SecretKey are not given",
            field="--secret-id-env",
            hint="name a variable (...-env) or a file (...-file) that holds each, or --secret-file",
        )
    return own, other or own


def _login(more: dict[str, Any], user: str | None, file: Path | None, url: str) -> tuple[str, str]:
    """Return CCR's user and password, out of options or of image-transfer's file."""
    password = _secret(
        "--ccr-password", more.pop("ccr_password_env"), more.pop("ccr_password_file")
    )
    if file is not None:
        if user is not None or password is not None:
            raise click.UsageError("--security-file, or --ccr-user and its password, not both")
        from api.importers.quick_mode import login

        return login(str(file), url.partition("://")[2])
    if user is None or password is None:
        raise InvalidConfiguration(
            "CCR's user and password are not given: pulling takes them",
            field="--ccr-user" if user is None else "--ccr-password-env",
            hint="give --ccr-user NUMBER, and --ccr-password-env or --ccr-password-file; or --security-file",
        )
    return user, password


def _key(more: dict[str, Any], prefix: str, usual: tuple[str, str] | None) -> Any:
    """Return an API key of the options that begin with a prefix; None where neither part is given."""
    from api.engine.tencent import ApiKey

    parts = []
    for number, part in enumerate(("secret_id", "secret_key")):
        name = f"{prefix}{part}"
        env, file = more.pop(f"{name}_env"), more.pop(f"{name}_file")
        if env is None and file is None and usual is not None and usual[number] in os.environ:
            env = usual[number]
        parts.append(_secret(f"--{name.replace('_', '-')}", env, file))
    identity, secret = parts
    if identity is None and secret is None:
        return None
    if identity is None or secret is None:
        missing = "id" if identity is None else "key"
        name = f"--{prefix}secret-{missing}".replace("_", "-")
        raise InvalidConfiguration(
            f"{name}-env or {name}-file is missing: both parts of an API key are needed",
            field=name,
            hint="name a variable or a file that holds it",
        )
    return ApiKey(identity, secret)


def _secret(option: str, env: str | None, file: Path | None) -> str | None:
    """Return a secret out of a variable or a file; None where neither is named. Raises InvalidConfiguration."""
    if env is not None and file is not None:
        raise click.UsageError(f"{option}-env or {option}-file, not both")
    if env is None and file is None:
        return None
    try:
        text = os.environ.get(env or "", "") if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidConfiguration(
            f"{file} cannot be read: {reason}", field=f"{option}-file", hint="name a readable file"
        ) from None
    if not text.strip():
        raise InvalidConfiguration(
            f"{file or 'the variable'} holds nothing",
            field=f"{option}-{'env' if file is None else 'file'}",
            hint="give the name of the variable or file, not the secret itself",
        )
    return text.strip()
