"""Every kind of address that is not the public internet, in each form that carries it."""

import pytest

from apps.executors.addresses import AllowedHosts, refusal


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.8", "192.0.2.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1",
        "2001:db8::1", "3fff::1", "64:ff9b:1::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:100.64.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:6440:1::",
        "2001:0:7f00:1::", "2001::1",
        "not an address", "",
    ],
)  # fmt: skip
def test_a28_refused(address):
    assert refusal(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_a28_positive_control_the_public_internet(address):
    assert refusal(address) is None


def test_a28_an_address_of_this_host_is_refused_whatever_it_is():
    assert refusal("8.8.8.8", own=frozenset({"8.8.8.8"}))
    assert refusal("::ffff:8.8.8.8", own=frozenset({"8.8.8.8"}))


def test_allowed_hosts_are_compared_as_hosts():
    allowed = AllowedHosts(["Api.Internal", "db:5432", "[::1]:8080", "fd00::1", " ", "straße.example"])
    assert allowed.holds("api.internal", 1)
    assert allowed.holds("API.internal.", 443)
    assert allowed.holds("db", 5432)
    assert allowed.holds("::1", 8080)
    assert allowed.holds("fd00:0::1", 9)
    assert allowed.holds("xn--strae-oqa.example", 80) or allowed.holds("strasse.example", 80)
    for host, port in (("db", 5433), ("::1", 81), ("internal", 1), ("evil-api.internal", 1), ("api.internal.evil", 1)):
        assert not allowed.holds(host, port)
