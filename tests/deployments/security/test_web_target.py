"""Hostile uris: each refused before a name is resolved, or by the addresses of its name."""

from __future__ import annotations

import asyncio

import pytest

from deployments.security.address import is_public
from deployments.security.web_fetch import WebFetch
from deployments.security.web_target import TargetRefused, allowed_target, read_target
from reelsight.errors import FetchError
from reelsight.settings import FetchSettings

HOSTS = ("clips.example.com", "*.cdn.example.net")
PORTS = (80, 443)

SCHEMES = [
    f"{scheme}clips.example.com/a.mp4"
    for scheme in (
        "file://",
        "ftp://",
        "gopher://",
        "dict://",
        "ldap://",
        "tftp://",
        "jar:http://",
        "s3://",
        "gs://",
        "ws://",
        "HTTP://",
        "hTTps://",
        "http:",
        "http:/",
        "http:///",
        "http:////",
        "https:\\\\",
        "http:/\\",
        "//",
        "",
        " http://",
        "\thttp://",
        "\nhttp://",
        "http ://",
        "http\n://",
        "view-source:http://",
        "javascript:http://",
        "data:text/html,",
        "httpss://",
        "http+unix://",
    )
]
USER_INFO = [
    "http://user@clips.example.com/",
    "http://user:pw@clips.example.com/",
    "http://clips.example.com@127.0.0.1/",
    "http://clips.example.com:80@127.0.0.1/",
    "http://clips.example.com:@127.0.0.1/",
    "http://127.0.0.1@clips.example.com/",
    "http://@clips.example.com/",
    "http://:@clips.example.com/",
    "http://clips.example.com%40127.0.0.1/",
    "http://clips.example.com\\@127.0.0.1/",
    "http://127.0.0.1\\@clips.example.com/",
    "http://clips.example.com#@127.0.0.1/",
    "http://127.0.0.1#@clips.example.com/",
    "http://clips.example.com?@127.0.0.1#x",
    "http://127.0.0.1?@clips.example.com/",
    "http://clips.example.com;@127.0.0.1/",
    "http://clips.example.com&@127.0.0.1/",
    "http://a@b@clips.example.com/",
]
NUMERIC = [
    f"http://{host}/a.mp4"
    for host in (
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0x0.0x0.0x1",
        "0x7f.1",
        "0177.0.0.1",
        "0177.0.0.01",
        "127.0.0.1.",
        "127.000.000.001",
        "00127.0.0.1",
        "127.0.0.256",
        "425.510.425.510",
        "4294967297",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "0xA9.0xFE.0xA9.0xFE",
        "169.254.43518",
        "169.16689662",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "8.8.8.8",
        "1.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[0:0:0:0:0:ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:4860:4860::8888]",
        "[::1",
        "::1",
        "[v1.x]",
        "[]",
        "\u2460\u2461\u2466.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "127\uff0e0\uff0e0\uff0e1",
    )
]
NAMES = [
    f"http://{host}/a.mp4"
    for host in (
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost.localdomain",
        "metadata",
        "metadata.google.internal",
        "instance-data.ec2.internal",
        "kubernetes.default.svc",
        "127.0.0.1.nip.io",
        "localtest.me",
        "example.com",
        "evil-clips.example.com",
        "clips.example.com.evil.org",
        "clips.example.com.",
        "clips.example.com..",
        ".clips.example.com",
        "clips..example.com",
        "clipsxexample.com",
        "cdn.example.net",
        "evilcdn.example.net",
        "a.cdn.example.net.evil.org",
        "*.cdn.example.net",
        "clips.example.com%00.evil.org",
        "clips.example.com%2f",
        "clips.example.com%2eevil.org",
        "clips%2eexample%2ecom",
        "clips.example.com\x00.evil.org",
        "clips.example.com evil.org",
        "clips.example.com\tx",
        "clips.example.com\r\nx",
        "cl\u0131ps.example.com",
        "clips.ex\u0430mple.com",
        "clips.example.co\u217f",
        "clips.example\u3002com",
        "clips\uff0eexample\uff0ecom",
        "cli\u00adps.example.com",
        "clips.example.com\u200b",
        "xn--clps-1pa.example.com",
        "-clips.example.com",
        "clips-.example.com",
        "a" * 64 + ".cdn.example.net",
        ".".join(["a" * 60] * 5) + ".cdn.example.net",
        "",
        ".",
        "_",
        "clips.example.com\\",
        "clips.example.com,evil.org",
        "clips.example.com\\.evil.org",
        "{clips.example.com}",
        "$clips.example.com",
    )
]
PORTS_AND_PATHS = [
    f"http://clips.example.com{rest}"
    for rest in (
        ":22/",
        ":25/",
        ":6379/",
        ":8080/",
        ":8265/",
        ":0/",
        ":00080/",
        ":080/",
        ":65536/",
        ":99999/",
        ":-80/",
        ":+80/",
        ":80a/",
        ":8 0/",
        ":/",
        ":80:443/",
        ":\uff18\uff10/",
        ":0x50/",
        "/a\r\nX-Evil: 1",
        "/a\nb",
        "/a\x00",
        "/a b",
        "/a\tb",
        "/%00",
        "/%0d%0aX-Evil:%201",
        "/%0A",
        "/%7f",
        "/%",
        "/%zz",
        "/%2",
        "/?%0d%0a",
        "/?a=%00",
        "/a\\..\\b",
        "/a#fragment",
        "#",
        "/\u00e9",
        "/\U0001f4a9",
        "/<script>",
        '/"',
        "/^",
        "/`",
        "/{}",
        "/|",
        "/" + "a" * 3000,
        "\\",
        ";/",
    )
]
HOSTILE = [*SCHEMES, *USER_INFO, *NUMERIC, *NAMES, *PORTS_AND_PATHS]

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2a00::5efe:7f00:1",
    "2a00::200:5efe:10.0.0.1",
    "localhost",
    "2130706433",
    "0x7f000001",
    "127.1",
    "8.8.8.8/32",
]


def test_there_are_many() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 200


@pytest.mark.parametrize("uri", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_uri_reaches_neither_a_resolver_nor_a_socket(uri: str) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    web = WebFetch(FetchSettings(hosts=HOSTS), 1 << 20, resolve, public=lambda _: True)
    with pytest.raises(FetchError) as refused:
        asyncio.run(web.fetch(uri))
    assert refused.value.code == "fetch.refused"
    assert refused.value.message == "the uri cannot be fetched"
    assert not asked


@pytest.mark.parametrize(
    ("uri", "host", "port", "path"),
    [
        ("http://clips.example.com", "clips.example.com", 80, "/"),
        ("https://clips.example.com/a.mp4?x=1&y=%20", "clips.example.com", 443, "/a.mp4?x=1&y=%20"),
        ("http://Clips.Example.COM:443/a@b", "clips.example.com", 443, "/a@b"),
        ("https://a.b.cdn.example.net/..;/x", "a.b.cdn.example.net", 443, "/..;/x"),
        ("http://clips.example.com?q", "clips.example.com", 80, "/?q"),
    ],
)
def test_a_plain_uri_is_read_into_its_parts(uri: str, host: str, port: int, path: str) -> None:
    target = allowed_target(uri, HOSTS, PORTS)
    assert (target.host, target.port, target.path) == (host, port, path)


def test_the_host_header_names_the_port_where_it_is_not_the_schemes() -> None:
    assert read_target("http://a.example/").authority == "a.example"
    assert read_target("http://a.example:8080/").authority == "a.example:8080"
    assert read_target("https://a.example:80/").authority == "a.example:80"
    with pytest.raises(TargetRefused):
        read_target("http://a.1/")


@pytest.mark.parametrize(
    "address",
    PRIVATE,
)
def test_an_address_that_is_not_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001:800::200e"]
)
def test_an_address_of_the_public_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "addresses",
    [[], ["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::ffff:93.184.215.14"], ["nonsense"]],
)
def test_a_listed_name_with_one_private_address_is_not_asked(
    addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("clips.example.com", 80)
        return addresses

    web = WebFetch(FetchSettings(hosts=HOSTS), 1 << 20, resolve)
    with pytest.raises(FetchError, match="cannot be fetched") as refused:
        asyncio.run(web.fetch("http://clips.example.com/a.mp4"))
    assert refused.value.code == "fetch.refused"
    assert "has no address, or one that is not public" in caplog.text


def test_without_hosts_nothing_is_fetched() -> None:
    with pytest.raises(FetchError) as refused:
        asyncio.run(WebFetch(FetchSettings(), 1 << 20).fetch("http://clips.example.com/"))
    assert refused.value.code == "fetch.scheme_refused"
