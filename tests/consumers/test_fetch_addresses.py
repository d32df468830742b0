"""The policy on URLs and addresses, without any network."""

from __future__ import annotations

import ipaddress
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.addresses import FetchPolicy, check_addresses, check_url, is_public, shown
from dotstream.errors import Poison

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1", "::ffff:8.8.8.8"]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:db8::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_lead_inside_or_nowhere(address: str) -> None:
    assert not is_public(ip_address(address))


@settings(max_examples=500)
@given(address=st.ip_addresses(v=4))
def test_an_address_is_as_public_in_any_wrapping(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for wrapped in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert is_public(ipaddress.IPv6Address(wrapped)) == is_public(address)


def test_one_forbidden_address_condemns_the_name() -> None:
    policy = FetchPolicy(private_networks=(ip_network("10.0.0.0/8"),))
    assert check_addresses("a", ["1.1.1.1", "10.9.9.9", "1.1.1.1"], policy) == ["1.1.1.1", "10.9.9.9"]
    for bad in (["1.1.1.1", "127.0.0.1"], ["1.1.1.1", "not an address"]):
        with pytest.raises(Poison, match="fetch_address"):
            check_addresses("a", bad, policy)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a.example/x.jpg", "fetch_scheme"),
        ("ftp://a.example/x.jpg", "fetch_scheme"),
        ("data:image/jpeg;base64,AAAA", "fetch_scheme"),
        ("javascript:alert(1)", "fetch_scheme"),
        ("picture.jpg", "fetch_scheme"),
        ("//a.example/x.jpg", "fetch_scheme"),
        ("https://user@a.example/", "fetch_user_info"),
        ("https://user:pw@a.example/", "fetch_user_info"),
        ("https://allowed.example\\@evil.example/", "fetch_user_info"),
        ("https://a.example:8443/", "fetch_port"),
        ("https://a.example:22/", "fetch_port"),
        ("https:///x.jpg", "fetch_bad_url"),
        ("https://", "fetch_bad_url"),
        ("https://a.example:99999/", "fetch_port"),
        ("https://a.example:port/", "fetch_bad_url"),
        ("https://[::1/", "fetch_bad_url"),
        ("https://a.example/\x00", "fetch_bad_url"),
        ("https://a.example/\r\nHost: evil", "fetch_bad_url"),
        ("https://a.example/" + "x" * 9000, "fetch_bad_url"),
        ("https://xn--\u0080.example/", "fetch_bad_url"),
        ("", "fetch_scheme"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(Poison) as caught:
        check_url(url, FetchPolicy())
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.example/x", True),
        ("https://CDN.example./x", True),
        ("https://a.b.pics.example/x", True),
        ("https://pics.example/x", False),
        ("https://evilpics.example/x", False),
        ("https://cdn.example.evil.example/x", False),
        ("https://cdn.example@evil.example/x", False),
    ],
)
def test_allowed_hosts(url: str, allowed: bool) -> None:
    policy = FetchPolicy(hosts=("cdn.example", ".pics.example"))
    if allowed:
        check_url(url, policy)
        return
    with pytest.raises(Poison):
        check_url(url, policy)


@settings(max_examples=500)
@given(text=st.text() | st.text("htps:/@[]?#\\.%a1-\t ").map("https://".__add__))
def test_any_text_is_a_url_within_the_policy_or_poison(text: str) -> None:
    try:
        url = check_url(text, FetchPolicy())
    except Poison:
        return
    assert url.scheme == "https"
    assert url.host
    assert not url.userinfo
    assert (url.port or 443) in (80, 443)


def test_shown_hides_what_may_be_secret() -> None:
    assert shown("https://u:p@a.example:1/b/c.jpg?sig=x#y") == "https://a.example:1/b/c.jpg"
    assert len(shown("https://a.example/" + "x" * 900)) == 200
