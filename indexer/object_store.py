"""The one door to object stores (a local folder, S3, Google, Azure, memory): opening them, and naming their errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore import exceptions, store
from obstore.store import LocalStore, MemoryStore, ObjectStoreMethods

from dotstream.errors import DotstreamError, Misconfigured, Poison, Retryable, Unavailable

DEFAULT_LIMIT_S = 10.0
CLIENT_KEYS = frozenset({"allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "user_agent"})
"""Keys of `config` that belong to the HTTP client below a store, which obstore wants apart."""


def open_store(
    url: str, *, limit_s: float = DEFAULT_LIMIT_S, retries: int = 2, config: Mapping[str, Any] | None = None
) -> Any:
    """Opens a store; nothing is asked of a remote one yet.

    Args:
        url: file:///absolute/folder (made when missing), memory:///, or s3://, gs://, az:// with bucket and prefix.
        limit_s: for one request to a remote store.
        retries: of one request, made by the store's client as long as `limit_s` has not passed.
        config: keys of the store's kind, such as endpoint or region; credentials are found as its own tools find them.

    Returns:
        An obstore store whose keys are relative to the URL.

    Raises:
        Misconfigured: the URL or a key of `config` is not understood, or the folder cannot be made.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme == "memory":
            return MemoryStore()
        if parts.scheme == "file":
            folder = Path(url2pathname(parts.path))
            if parts.netloc or not folder.is_absolute():
                raise Misconfigured(f"{url} is not of the form file:///absolute/folder")
            return LocalStore(folder, mkdir=True)
        limit = timedelta(seconds=limit_s)
        given = dict(config or {})
        from_url: Any = store.from_url  # which keys `config` may have depends on the URL's scheme
        return from_url(
            url,
            config={key: value for key, value in given.items() if key not in CLIENT_KEYS},
            client_options={key: value for key, value in given.items() if key in CLIENT_KEYS}
            | {"timeout": limit, "connect_timeout": limit / 2},
            retry_config={"max_retries": retries, "retry_timeout": limit},
        )
    except (exceptions.BaseError, ValueError, OSError) as error:
        raise Misconfigured(f"cannot open the object store {url.partition('?')[0]}: {first_line(error)}") from error


def local_folder(opened: ObjectStoreMethods) -> Path | None:
    """The folder of a local store; None for the others."""
    return opened.prefix if isinstance(opened, LocalStore) else None


def translated(error: Exception, what: str) -> DotstreamError:
    """The project's error for one that obstore raised. Absent objects (FileNotFoundError) are the caller's to name.

    Args:
        error: one of obstore's, or a built-in one that it raised.
        what: the object and what was being done to it.
    """
    detail = f"{what}: {first_line(error)}"
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)):
        return Misconfigured(f"{detail}; check the store's credentials and rights")
    if isinstance(error, (exceptions.UnknownConfigurationKeyError, exceptions.NotSupportedError)):
        return Misconfigured(detail)
    if isinstance(error, (exceptions.InvalidPathError, ValueError)):
        return Poison("store_key", detail)
    if isinstance(error, exceptions.BaseError):
        return Unavailable(detail)
    return Retryable(detail)


def first_line(error: Exception) -> str:
    """Messages of obstore go on with a dump of their source; the first line says what happened."""
    return str(error).strip().partition("\n")[0][:300]
