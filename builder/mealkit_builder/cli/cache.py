"""``mealkit cache``: what builds keep on this machine and in repositories."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from ._options import json_option
from ._output import print_json, size_text
from ._quantity import Age, Size


@click.group()
def cache() -> None:
    """Show and prune what builds keep: wheels and layers on this machine, cache tags in a repository.

    Nothing in a cache is needed: what is missing is fetched and made again, with the same digests.

    \b
    Examples:
      mealkit cache ls                                      what is here, by kind
      mealkit cache prune --older-than 30d --max-size 5GB
      mealkit cache ls registry.example.com/team/shop       the cache tags of a repository
      mealkit cache path
    """  # noqa: D301


@cache.command(short_help="Print the folder of the cache.")
def path() -> None:
    """Print the folder of the cache: $MEALKIT_CACHE, else one in your home."""
    from mealkit_builder.store import default_store_root

    click.echo(default_store_root(dict(os.environ)))


@cache.command(short_help="Show what is in the cache, or a repository's cache tags.")
@click.argument("url", required=False)
@json_option
def ls(url: str | None, as_json: bool) -> None:
    """Show what is in the cache here, or the cache tags of the repository URL.

    \b
    Examples:
      mealkit cache ls
      mealkit cache ls registry.example.com/team/shop --json
    """  # noqa: D301
    if url is not None:
        _list_tags(url, as_json)
        return
    from mealkit_builder.inventory import list_items
    from mealkit_builder.store import Store, default_store_root

    store = Store(default_store_root(dict(os.environ)))
    kinds: dict[str, dict[str, Any]] = {}
    for item in list_items(store):
        kind = kinds.setdefault(item.kind, {"kind": item.kind, "count": 0, "size": 0, "used": 0.0})
        kind["count"] += 1
        kind["size"] += item.size
        kind["used"] = max(kind["used"], item.used)
    rows = sorted(kinds.values(), key=lambda row: (-row["size"], row["kind"]))
    total = sum(row["size"] for row in rows)
    if as_json:
        print_json({"path": str(store.root), "size": total, "kinds": rows})
        return
    now = time.time()
    width = max([len(row["kind"]) for row in rows], default=0)
    for row in rows:
        click.echo(
            f"{row['kind']:{width}}  {row['count']:6}  {size_text(row['size']):>9}  last used {_ago(now - row['used'])}"
        )
    click.echo(f"{size_text(total)} in {store.root}")


@cache.command(short_help="Remove what was used longest ago, or cache tags.")
@click.argument("url", required=False)
@click.option("--older-than", type=Age(), metavar="AGE", help="Remove what was not used for so long, such as 30d.")
@click.option(
    "--max-size",
    type=Size(),
    metavar="SIZE",
    help="Remove what was used longest ago until so much is left, such as 5GB.",
)
@click.option("--all", "everything", is_flag=True, help="Remove all.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what would go.")
@json_option
def prune(
    url: str | None, older_than: float | None, max_size: int | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove what was used longest ago here, or all cache tags of the repository URL.

    A build that runs meanwhile makes again what it misses. In a repository only tags are removed; the registry frees
    the layers that no image has when it collects its garbage.

    \b
    Examples:
      mealkit cache prune --older-than 30d
      mealkit cache prune --max-size 5GB --dry-run
      mealkit cache prune registry.example.com/team/shop
    """  # noqa: D301
    from mealkit.errors import UsageError

    if url is not None:
        if older_than is not None or max_size is not None:
            raise UsageError(
                "cache tags have no age and no size",
                where=url,
                hint="leave --older-than and --max-size out: all cache tags of the repository go",
            )
        _prune_tags(url, dry_run, as_json)
        return
    if older_than is None and max_size is None and not everything:
        raise UsageError(
            "nothing says what may go", hint="mealkit cache prune --older-than 30d, --max-size 5GB, or --all"
        )
    from mealkit_builder.inventory import prune as prune_store
    from mealkit_builder.store import Store, default_store_root

    store = Store(default_store_root(dict(os.environ)))
    gone = prune_store(
        store, time.time(), older_than=older_than, max_size=max_size, everything=everything, dry_run=dry_run
    )
    if as_json:
        items = [
            {"path": str(item.path), "kind": item.kind, "size": item.size, "used": item.used} for item in gone.items
        ]
        print_json({"dry_run": dry_run, "freed": gone.freed, "kept": gone.kept, "removed": items})
        return
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {len(gone.items)} things, {size_text(gone.freed)}; {size_text(gone.kept)} stay")


def _list_tags(url: str, as_json: bool) -> None:
    from mealkit_builder.cache_repository import list_cache_tags

    found = list_cache_tags(url, os.environ)
    if as_json:
        print_json([{"tag": one.tag, "digest": one.digest, "size": one.size,
                     "layers": [{"title": layer.title, "kind": layer.kind, "key": layer.key, "size": layer.size,
                                 "digest": layer.digest} for layer in one.layers]} for one in found])  # fmt: skip
        return
    for one in found:
        what = one.layers[0].title if len(one.layers) == 1 else f"a lock: {len(one.layers)} layers"
        click.echo(f"{one.tag}  {size_text(one.size):>9}  {what}")
    layers = {layer.digest: layer.size for one in found for layer in one.layers}
    click.echo(f"{len(found)} cache tags, {len(layers)} layers, {size_text(sum(layers.values()))}")


def _prune_tags(url: str, dry_run: bool, as_json: bool) -> None:
    from mealkit_builder.cache_repository import prune_cache_tags

    gone = prune_cache_tags(url, os.environ, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "removed": gone})
    else:
        click.echo(f"{'would remove' if dry_run else 'removed'} {len(gone)} cache tags")


def _ago(seconds: float) -> str:
    """A length of time in one unit: ``3 days ago``."""
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
