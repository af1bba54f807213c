"""`extauthz keys`: a key is made, looked at and changed. How it ends or moves on is in `life.py`."""

from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated

import typer

from extauthz.cli import credits as grants
from extauthz.cli import imports, key_texts, life, options, output, parse
from extauthz.cli.session import manage, read_settings, warn_if_late, warn_if_too_small
from extauthz.core.errors import InvalidInput
from extauthz.core.management import KeyTerms

app = typer.Typer(help="API keys of an organization.")


@app.command()
@options.with_quotas
def create(
    organization: options.Organization,
    name: options.Name = None,
    permission: options.Permission = None,
    expires_in: options.ExpiresIn = None,
    expires_at: options.ExpiresAt = None,
    metadata: options.Metadata = None,
    rate: options.Rate = None,
    burst: options.Burst = None,
    config: options.Config = None,
    as_json: options.Json = False,
    **quotas: str | None,
) -> None:
    """Create a key and show it, this once: only its digest is stored. Without --permission it may do everything."""
    terms = KeyTerms(
        name=name or "",
        permissions=parse.permissions(permission or ()),
        expires_at=parse.expiry(expires_in, expires_at, datetime.now(UTC)),
        metadata=parse.metadata(metadata or ()),
        limits=parse.own_limits({"rate": rate, "burst": burst, **quotas}),
    )
    settings = read_settings(config)
    (details, key), its = key_texts.manage_key(
        settings, lambda operator: operator.keys.create(organization, terms), itemgetter(0)
    )
    if as_json:
        output.print_json({**key_texts.to_json(details), "key": key})
    else:
        key_texts.print_secret(details, key, its, settings=settings)
    warn_if_too_small(details.limits, settings)


@app.command("list")
def list_all(organization: options.Organization, config: options.Config = None, as_json: options.Json = False) -> None:
    """List the keys of an organization, newest first."""
    keys = manage(read_settings(config), lambda operator: operator.keys.list_of(organization))
    if as_json:
        output.print_json([key_texts.to_json(key) for key in keys])
    elif not keys:
        output.hint("The organization has no key yet: extauthz keys create ORG")
    else:
        key_texts.print_list(keys)


@app.command(short_help="Show a key: everything but the key itself.")
def show(key_id: options.KeyId, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show a key: everything but the key itself, which is nowhere stored."""
    key, its = key_texts.manage_key(read_settings(config), lambda operator: operator.keys.show(key_id), lambda key: key)
    key_texts.print_key(key, its, as_json=as_json)


@app.command()
@options.with_quotas
def update(
    key_id: options.KeyId,
    name: options.Name = None,
    permission: options.Permission = None,
    expires_in: options.ExpiresIn = None,
    expires_at: Annotated[
        str | None,
        typer.Option("--expires-at", metavar="TIME", help="When it ends: 2030-01-31T12:00:00Z; none for never."),
    ] = None,
    metadata: options.Metadata = None,
    rate: options.Rate = None,
    burst: options.Burst = None,
    config: options.Config = None,
    as_json: options.Json = False,
    **quotas: str | None,
) -> None:
    """Change a key. Permissions and metadata replace all that were there; `none` clears metadata, expiry or a limit."""
    changes = parse.limits({"rate": rate, "burst": burst, **quotas})
    changes |= parse.new_expiry(expires_in, expires_at, datetime.now(UTC))
    if name is not None:
        changes["name"] = name
    if permission:
        changes["permissions"] = parse.permissions(permission)
    if metadata:
        changes["metadata"] = parse.metadata(metadata)
    if not changes:
        raise InvalidInput(
            "nothing to change: give --name, --permission, --expires-in, --expires-at, --metadata, --rate, --burst,"
            f" {options.QUOTA_OPTIONS}"
        )
    settings = read_settings(config)
    (key, told), its = key_texts.manage_key(
        settings, lambda operator: operator.keys.update(key_id, changes), itemgetter(0)
    )
    key_texts.print_key(key, its, as_json=as_json)
    warn_if_too_small(key.limits, settings)
    warn_if_late(told, settings, cache="API_KEY_CACHE_TTL")


app.command()(life.disable)
app.command()(life.enable)
app.command(short_help="Replace a key by a new one, which is shown this once.")(life.rotate)
app.command()(life.revoke)
app.command("credits")(grants.of_key)
app.command()(life.repepper)
# What follows an argument too many would be repeated: `imports` says itself what it does not take.
app.command(
    "import",
    short_help="Import a key that another system issued, or many from CSV.",
    context_settings={"allow_extra_args": True},
)(imports.import_keys)
