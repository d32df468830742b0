"""Reads pictures named by object-store URLs, only from the buckets (or prefixes in them) that a setting names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import obstore
from obstore import exceptions

from consumers.addresses import FetchPolicy, shown
from dotstream.errors import Misconfigured, Poison
from indexer.object_store import open_store, translated

BUCKET_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")

Buckets = Mapping[str, Any]
"""Allowed prefix, such as "s3://pins" or "s3://pins/2026", without a slash at its end -> its opened obstore store."""


def open_buckets(
    prefixes: Collection[str], policy: FetchPolicy, *, config: Mapping[str, Mapping[str, Any]] | None = None
) -> Buckets:
    """Opens the stores from which pictures may be fetched.

    A request gets such a part of the policy's limit that all tries and the waits between them fit into it.

    Args:
        prefixes: "s3://bucket", "gs://bucket", "az://…", each with or without a path.
        policy: its limit and number of tries.
        config: prefix -> its store's keys (endpoint, region, …).

    Raises:
        Misconfigured: a prefix is not understood, or not that of a bucket.
    """
    for prefix in prefixes:
        if prefix.partition("://")[0] not in BUCKET_SCHEMES:
            raise Misconfigured(f"{prefix} is no bucket; its scheme must be one of {', '.join(BUCKET_SCHEMES)}")
    settings = config or {}
    limit_s = policy.limit_s / (policy.attempts + 1)
    return {
        prefix.rstrip("/"): open_store(prefix.rstrip("/"), limit_s=limit_s, retries=0, config=settings.get(prefix))
        for prefix in prefixes
    }


def read_object(url: str, buckets: Buckets, max_bytes: int) -> bytes:
    """The bytes of an object.

    Raises:
        Poison: fetch_bucket (not an allowed one), fetch_bad_url, fetch_not_found, fetch_forbidden, fetch_too_large.
        Retryable: the store is away.
    """
    prefixes = [prefix for prefix in buckets if url.startswith(f"{prefix}/")]
    if not prefixes:
        raise Poison("fetch_bucket", f"{shown(url)} is not in an allowed bucket")
    prefix = max(prefixes, key=len)
    key = url[len(prefix) + 1 :]
    try:
        found = obstore.get(buckets[prefix], key)
        if found.meta["size"] > max_bytes:
            raise Poison("fetch_too_large", f"{shown(url)} has {found.meta['size']} bytes; at most {max_bytes}")
        return bytes(found.bytes())
    except FileNotFoundError as error:
        raise Poison("fetch_not_found", f"no object {shown(url)}") from error
    except (exceptions.BaseError, OSError, ValueError) as error:
        named = translated(error, shown(url))
        if isinstance(named, Misconfigured):
            raise Poison("fetch_forbidden", str(named)) from error
        if isinstance(named, Poison):
            raise Poison("fetch_bad_url", named.detail) from error
        raise named from error
