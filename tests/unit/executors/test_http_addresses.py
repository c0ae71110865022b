"""Where HTTP steps may not go, in every spelling: no connection is made, which the server itself counts."""

import asyncio
import datetime
import ssl
from collections import Counter

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apps.executors.addresses import AllowedHosts, refusal
from tests.unit.executors.http_server import Server, to
from tests.unit.executors.test_http import http_perform, http_server  # noqa: F401 fixtures

LOOPBACK = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST.",
    "127.1",
    "0.0.0.0",
    "0",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "127.0.0.1@127.0.0.1",
]
PRIVATE = [
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.192",
    "198.18.0.1",
    "192.0.2.1",
    "168.63.129.16",
    "0.1.2.3",
    "192.88.99.1",
    "fe80::1",
    "fe80::1%2",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2002:a00:1::1",
    "2001:0:a00:1::1",
    "2001:db8::1",
    "100::1",
    "4000::1",
    "localhost",
    "127.0.0.1:80",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.fixture
async def everywhere():
    """A server on every address of this host, also the IPv6 ones."""
    made = Server()
    await made.start(everywhere=True)
    yield made
    await made.stop()


@pytest.mark.parametrize("host", LOOPBACK)
async def test_a28_no_spelling_of_loopback_is_reached(perform, server, everywhere, host):
    for target in (server, everywhere):
        error = (await perform(target.url(host=host), allowed=())).error
        assert error.type in ("refused", "connection", "invalid")  # some resolvers do not know every spelling
        assert error.type != "refused" or not error.retryable
        assert target.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
async def test_a28_a_refusal_says_what_it_is_and_who_may_lift_it(perform, server, host):
    error = (await perform(server.url(host=host), allowed=())).error
    assert (error.type, error.retryable) == ("refused", False)
    assert "HTTP_STEP_ALLOWED_HOSTS" in error.message
    assert server.connections == 0


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:PORT", "LocalHost", "localhost:PORT"])
async def test_a28_allowed_hosts_are_reached(perform, server, entry):
    host = entry.partition(":")[0]
    result = await perform(server.url(host=host), allowed=[entry.replace("PORT", str(server.port))])
    assert result.outputs["json"] == {"ok": True}
    assert server.connections == 1


@pytest.mark.parametrize("entry", ["localhost", "127.0.0.1:1", "127.0.0.2", "27.0.0.1", ""])
async def test_a28_what_is_allowed_is_that_host_only(perform, server, entry):
    assert (await perform(server.url(), allowed=[entry])).error.type == "refused"
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0.0.0.0"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a28_a_redirect_leads_nowhere_else(perform, server, everywhere, host, status):
    server.answers["/"] = to(everywhere.url(host=host), status)
    error = (await perform(server.url(), allowed=[f"127.0.0.1:{server.port}"])).error
    assert (error.type, error.retryable) == ("refused", False)
    assert (server.connections, everywhere.connections) == (1, 0)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_"])
async def test_a28_a_redirect_stays_with_http(perform, server, location):
    server.answers["/"] = to(location)
    assert (await perform(server.url())).error.type == "refused"


async def test_a28_a_redirect_to_an_allowed_host_is_followed(perform, server, everywhere):
    server.answers["/"] = to(everywhere.url(host="localhost"))
    result = await perform(server.url(), allowed=["127.0.0.1", f"localhost:{everywhere.port}"])
    assert result.outputs["json"] == {"ok": True}


async def test_a28_a_name_is_refused_for_one_bad_address_among_good_ones(perform, server, monkeypatch):
    asked = []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(2, 1, 6, "", ("8.8.8.8", port)), (2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert (await perform(server.url(host="rebind.example"), allowed=())).error.type == "refused"
    assert (server.connections, asked) == (0, ["rebind.example"])


async def test_a28_a_name_is_resolved_once_between_check_and_use(perform, server, monkeypatch):
    """A name server that answers with a harmless address first and with loopback afterwards gets no second question."""
    asked = []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert (await perform(server.url(host="name.example"), allowed=["name.example"])).error is None
    assert asked == ["name.example"]
    assert server.asked[0].headers["host"] == f"name.example:{server.port}"


async def test_a28_this_hosts_own_public_addresses_are_refused():
    assert refusal("93.184.215.14") is None
    assert refusal("93.184.215.14", own=frozenset({"93.184.215.14"})) == "this host's own address"
    assert refusal("::ffff:93.184.215.14", own=frozenset({"93.184.215.14"})) == "this host's own address"


async def test_a28_no_address_of_an_interface_is_reached(perform, everywhere):
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family.name == "AF_INET":
                assert (await perform(everywhere.url(host=entry.address), allowed=())).error.type == "refused"
    assert everywhere.connections == 0


@pytest.mark.parametrize("address", PRIVATE)
def test_a28_addresses_that_are_not_public(address):
    assert refusal(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a28_addresses_that_are_public(address):
    assert refusal(address) is None


def test_allowed_hosts_are_compared_in_one_form():
    allowed = AllowedHosts(["Example.COM", "b.io:8080", "[::1]:80", "::2", "bücher.de", " "])
    assert allowed.holds("example.com.", 443)
    assert (allowed.holds("b.io", 8080), allowed.holds("b.io", 80), allowed.holds("a.b.io", 8080)) == (
        True,
        False,
        False,
    )
    assert (allowed.holds("::1", 80), allowed.holds("::1", 81), allowed.holds("0::2", 5)) == (True, False, True)
    assert allowed.holds("xn--bcher-kva.de", 443)
    assert not allowed.holds("", 80)


def certificate_for(host: str, directory):
    """A server's TLS context for `host`, and the file with the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = directory / "chain.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = directory / "key.pem"
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context, chain


async def test_a28_tls_verifies_the_name_of_the_url_and_not_the_address(perform, tmp_path, monkeypatch):
    context, authority = certificate_for("localhost", tmp_path)
    secure = Server()
    await secure.start(tls=context)
    url, other = secure.url(host="localhost", scheme="https"), secure.url(scheme="https")
    assert (await perform(url, allowed=["localhost"])).error.type == "connection"  # nobody vouches for it yet
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert (await perform(url, allowed=["localhost"])).outputs["json"] == {"ok": True}
    error = (await perform(other, allowed=["127.0.0.1"])).error
    assert error.type == "connection"
    assert "127.0.0.1" in error.message
    assert len(secure.asked) == 1
    await secure.stop()


async def test_a28_the_whole_run(perform, everywhere):
    """Every form at once, with what came of it: nothing was connected to. Run with `-s` to read it."""
    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if ":" not in entry.address]
    outcomes = Counter()
    forms = list(dict.fromkeys([*LOOPBACK, *own]))
    for host in forms:
        for url in (everywhere.url(host=host), everywhere.url("/monitoring/metrics", host=host)):
            outcomes[(await perform(url, allowed=())).error.type] += 1
    print(f"SSRF: {len(forms)} forms tried, {dict(outcomes)}, connections made = {everywhere.connections}")
    assert everywhere.connections == 0
    assert (await perform(everywhere.url(), allowed=("127.0.0.1",))).error is None
    assert everywhere.connections == 1, "the control: the server is there"
