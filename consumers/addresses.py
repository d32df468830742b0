"""Where a picture may be fetched from: which URLs and which network addresses are let through, and why not the others.

An event's URL is written by a stranger, and the worker stands inside the network. So a URL is held against the policy
before anything is looked up, and every address that its host name resolves to must be a public one (or in a network
that a setting names) before anything is connected. consumers/network.py connects to just the addresses checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import httpx

from dotstream.errors import Poison

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}
NEVER = tuple(
    ip_network(net)
    for net in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10")
)
"""Special networks (RFC 6890, 6598, 7526, 8215, 3879) that not every Python version calls non-global."""
IPV4_COMPATIBLE = IPv6Network("::/96")
NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched, and at what cost.

    Attributes:
        http: also http, not only https.
        hosts: names that may be asked; ".example.org" stands for all names below it. Empty: any.
        ports: that may be connected to.
        private_networks: networks that are allowed although they are not public.
        file_roots: folders below which file URLs may point. Empty: no file URLs.
        max_bytes: of one picture.
        limit_s: for one picture in all, retries, redirects and name lookups included.
        connect_s: for one connection.
        stall_s: without a byte from the other side.
        redirects: followed at most, each checked as the first URL was.
        attempts: tries for one picture, as far as `limit_s` allows.
    """

    http: bool = False
    hosts: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset({80, 443})
    private_networks: tuple[Network, ...] = ()
    file_roots: tuple[Path, ...] = ()
    max_bytes: int = 20_000_000
    limit_s: float = 10.0
    connect_s: float = 3.0
    stall_s: float = 4.0
    redirects: int = 3
    attempts: int = 3


def shown(url: str) -> str:
    """A URL as it may appear in logs and dead letters: without user info, query and fragment, which can be secrets."""
    text = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    return (scheme + slashes + authority.rpartition("@")[2] + slash + path)[:200]


def check_url(text: str, policy: FetchPolicy) -> httpx.URL:
    """Parses an http(s) URL and holds it against the policy. Nothing is looked up.

    Raises:
        Poison: fetch_bad_url, fetch_scheme, fetch_user_info, fetch_host, fetch_port.
    """
    if len(text) > MAX_URL:
        raise Poison("fetch_bad_url", f"a URL of {len(text)} characters; at most {MAX_URL}")
    try:
        url = httpx.URL(text)
        host, port = url.host.lower().rstrip("."), url.port
    except (httpx.InvalidURL, ValueError) as error:  # IDNA errors are ValueErrors
        raise Poison("fetch_bad_url", f"{shown(text)}: {error}") from error
    if url.scheme not in DEFAULT_PORTS or (url.scheme == "http" and not policy.http):
        raise Poison("fetch_scheme", f"scheme {url.scheme[:32]!r} of {shown(text)} is not allowed")
    if url.userinfo:
        raise Poison("fetch_user_info", f"user info in {shown(text)}")
    if not host:
        raise Poison("fetch_bad_url", f"no host in {shown(text)}")
    if policy.hosts and not any(_host_matches(host, allowed) for allowed in policy.hosts):
        raise Poison("fetch_host", f"host {host} is not allowed")
    if (port or DEFAULT_PORTS[url.scheme]) not in policy.ports:
        raise Poison("fetch_port", f"port {port} of {host} is not allowed")
    return url


def _host_matches(host: str, allowed: str) -> bool:
    allowed = allowed.lower().rstrip(".")
    return host.endswith(allowed) if allowed.startswith(".") else host == allowed


def check_addresses(host: str, addresses: Sequence[str], policy: FetchPolicy) -> list[str]:
    """The addresses of a host, all of them checked: one forbidden address condemns the name.

    Raises:
        Poison: fetch_address.
    """
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError as error:
            raise Poison("fetch_address", f"{host} resolves to {text!r}, which is no address") from error
        if not is_public(address) and not any(address in net for net in policy.private_networks):
            raise Poison("fetch_address", f"{host} resolves to {address}, which is not public")
    return list(dict.fromkeys(addresses))


def is_public(address: Address) -> bool:
    """Whether the address is one of the public internet's, in itself and in any IPv4 address that it carries."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        carried = _carried(address)
        if carried is not None:
            return is_public(carried)
    if any(address in net for net in NEVER):
        return False
    return address.is_global and not (address.is_multicast or address.is_unspecified)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a packet for this one would be led: mapped, compatible, NAT64, 6to4, Teredo."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64 or address in IPV4_COMPATIBLE:
        return IPv4Address(address.packed[12:])
    if address.sixtofour is not None:
        return address.sixtofour
    return address.teredo[1] if address.teredo is not None else None
