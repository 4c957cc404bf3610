"""What an upstream may be, and that a request never leaves it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resumestream.errors import ConfigError, InvalidQuery
from resumestream.model import Principal
from resumestream.upstream import KNOWN, Upstream, target, without_credentials

BASE = "https://h.example/api"

# --- base URLs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "authority", "shown"),
    [
        ("https://api.openai.com", "api.openai.com", "api.openai.com:443"),
        ("https://api.openai.com:443/v1/", "api.openai.com", "api.openai.com:443"),
        ("http://h.example", "h.example", "h.example:80"),
        ("http://h.example:443", "h.example:443", "h.example:443"),
        ("https://h.example:80", "h.example:80", "h.example:80"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000/x", "[::1]:8000", "[::1]:8000"),
        ("HTTPS://H.Example", "h.example", "h.example:443"),
    ],
)
def test_where_an_upstream_is(url: str, authority: str, shown: str) -> None:
    """The Host header has the port only where it is not the scheme's own."""
    origin = Upstream(url).origin
    assert (origin.authority, str(origin)) == (authority, shown)
    assert (origin.ssl_context is not None) == url.lower().startswith("https")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("api.openai.com", "must start with http"),
        ("ftp://h.example", "must start with http"),
        ("unix:///run/x", "must start with http"),
        ("", "must start with http"),
        ("https://", "no host"),
        ("https:///v1", "no host"),
        ("https://:443", "no host"),
        ("https://h.example:0", "port 0"),
        ("https://h.example:65536", "is no URL"),
        ("https://h.example:x", "is no URL"),
        ("https://h.example/?a=b", "before any query"),
        ("https://h.example/#a", "before any query"),
        ("https://h.example?", "before any query"),
        ("https://h.example/a b", "characters"),
        ("https://h.example/\r\nx", "characters"),
        ("https://h.ex\tample", "characters"),
        ("https://h.example\\@evil.example", "characters"),
        ("https://höst.example", "characters"),
        ("https://[::1", "is no URL"),
        ("https://h.example/a/../b", "'..'"),
        ("https://h.example/%2E%2e", "'..'"),
    ],
)
def test_a_base_url_that_is_none_is_refused(url: str, why: str) -> None:
    """The message says what is wrong and shows what was given."""
    with pytest.raises(ConfigError, match=re.escape(why)) as refused:
        Upstream(url)
    assert "base URL" in str(refused.value)
    assert not url or url[:7] in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@h.example",
        "https://u:hunter2/x@h.example",
        "https://hunter2@h.example",
        "https://h/?key=hunter2",
    ],
)
def test_a_secret_in_a_base_url_is_refused_and_not_shown(url: str) -> None:
    """Neither a password nor a key gets into an error text, a log or a repr."""
    with pytest.raises(ConfigError) as refused:
        Upstream(url)
    assert "hunter2" not in str(refused.value)


def test_the_known_names_are_upstreams() -> None:
    """Each can be made as it stands, and ends before the version, which clients append."""
    for name, url in KNOWN.items():
        assert re.fullmatch(r"[a-z]+", name)
        assert Upstream(url).base_url == url
        assert not re.search(r"/v\d|/$", url)


# --- the other settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"connect_s": 0}, "connect_s is 0"),
        ({"connect_s": -1}, "connect_s is -1"),
        ({"connect_s": float("nan")}, "connect_s is nan"),
        ({"connect_s": "10"}, "connect_s is '10'"),
        ({"connect_s": True}, "connect_s is True"),
        ({"dialect": "klingon"}, "klingon"),
        ({"verify": False}, "verify is False"),
        ({"verify": "/no/such.pem"}, "/no/such.pem"),
        ({"verify": __file__}, "PEM"),
        ({"headers": [("a", "b")]}, "headers is a list"),
        ({"headers": "a: b"}, "headers is a str"),
        ({"headers": {"bad name": "x"}}, "'bad name'"),
        ({"headers": {"": "x"}}, "''"),
        ({"headers": {"Host": "x"}}, "'Host'"),
        ({"headers": {"Content-Length": "1"}}, "'Content-Length'"),
        ({"headers": {"Transfer-Encoding": "x"}}, "'Transfer-Encoding'"),
    ],
)
def test_a_wrong_setting_is_refused(setting: dict[str, Any], why: str) -> None:
    """When it is made, not when it is first used."""
    with pytest.raises(ConfigError, match=re.escape(why)):
        Upstream("https://h.example", **setting)


@pytest.mark.parametrize("value", ["hunter2\r\nx: y", "hunter2\x00", "hunter2€"])
def test_a_header_value_that_cannot_be_sent_is_not_shown(value: str) -> None:
    """It is a credential."""
    with pytest.raises(ConfigError, match="'authorization'") as refused:
        Upstream("https://h.example", headers={"authorization": value})
    assert "hunter2" not in str(refused.value)


def test_a_repr_has_no_credentials() -> None:
    """It ends up in logs."""
    assert "hunter2" not in repr(Upstream("https://h.example", headers={"x-api-key": "hunter2"}))


def test_contexts_are_shared_where_trust_is_the_same() -> None:
    """So that upstreams at one origin share connections, and the system's certificates are read once."""
    own = ssl.create_default_context()
    assert Upstream("https://h.example/a").origin == Upstream("https://h.example/b").origin
    assert Upstream("https://h.example").origin != Upstream("https://h.example", verify=own).origin
    assert Upstream("https://h.example", verify=own).origin.ssl_context is own


@pytest.mark.anyio
async def test_whose_credentials_are_used() -> None:
    """Given ones, or what a function gives for the principal; they are checked when it gives them."""

    async def vault(principal: Principal) -> Mapping[str, str]:
        return {"X-Api-Key": f"key of {principal.id}"} if principal.id != "mallory" else {"x-api-key": "hunter2\n"}

    alice, mallory = Principal("alice"), Principal("mallory")
    assert await Upstream("https://h.example").own_headers(alice) is None
    assert not Upstream("https://h.example").server_side
    fixed = Upstream("https://h.example", headers={"Authorization": " Bearer x "})
    assert fixed.server_side
    assert await fixed.own_headers(alice) == [(b"authorization", b"Bearer x")]
    asked = Upstream("https://h.example", headers=vault)
    assert asked.server_side
    assert await asked.own_headers(alice) == [(b"x-api-key", b"key of alice")]
    with pytest.raises(ConfigError, match="'x-api-key'") as refused:
        await asked.own_headers(mallory)
    assert "hunter2" not in str(refused.value)


# --- targets ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("given", [None, "Bearer hunter2", [("a", "hunter2")], {b"x-api-key": "hunter2"}])
async def test_a_function_that_gives_no_headers_is_told(given: Any) -> None:
    """By what it gave, never by its value; also one that is not async."""

    async def vault(principal: Principal) -> Any:
        return given

    for headers in (vault, lambda principal: given):
        with pytest.raises(ConfigError) as refusal:
            await Upstream("https://h.example", headers=headers).own_headers(Principal("ann"))
        assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize(
    ("base", "path", "query", "expected"),
    [
        ("https://h.example", b"/v1/chat", b"", b"/v1/chat"),
        ("https://h.example/", b"/v1/chat", b"", b"/v1/chat"),
        (BASE, b"/v1/chat", b"a=1&b", b"/api/v1/chat?a=1&b"),
        (BASE + "/", b"", b"", b"/api"),
        ("https://h.example", b"", b"", b"/"),
        ("https://h.example", b"/", b"", b"/"),
        (BASE, b"/a%2Fb%20c//d/./e%3F", b"k=%2e%2e/..", b"/api/a%2Fb%20c//d/./e%3F?k=%2e%2e/.."),
        (BASE, b"/v1beta/models/g-3:stream", b"alt=sse", b"/api/v1beta/models/g-3:stream?alt=sse"),
        (BASE, b"/%25252e%25252e/x", b"", b"/api/%25252e%25252e/x"),
        (BASE, b"/...", b"", b"/api/..."),
        (BASE, b"/a..b/..c", b"", b"/api/a..b/..c"),
        (BASE, b"/go/https://x.example", b"", b"/api/go/https://x.example"),
    ],
)
def test_a_target_keeps_every_byte(base: str, path: bytes, query: bytes, expected: bytes) -> None:
    """Percent-encoding, double slashes and single dots stay as the caller wrote them."""
    assert target(base, path, query) == expected


@pytest.mark.parametrize(
    "path",
    [
        b"/..",
        b"/../x",
        b"/a/../../x",
        b"/a/..",
        b"/%2e%2e/x",
        b"/%2E./x",
        b"/.%2e/x",
        b"/a%2f..%2fx",
        b"/a%2F%2e%2e",
        b"/a%5c..%5cx",
        b"/..;a=b/x",
        b"/..%3b/x",
        b"/%252e%252e/x",
        b"/..%252fx",
        b"/x#/../y",
        b"/a\\b",
        b"/a b",
        b"/a\r\nHost: x",
        b"/a\x00",
        b"/a\x7f",
        b"/\xc3\xa4",
        b"//evil.example/x",
        b"http://evil.example/x",
        b"evil.example",
        b"@evil.example",
        b":80/x",
    ],
)
def test_a_path_that_could_leave_is_refused(path: bytes) -> None:
    """However it is encoded, once."""
    with pytest.raises(InvalidQuery):
        target(BASE, path, b"")


@pytest.mark.parametrize("query", [b"a b", b"a\r\nX: y", b"\xff", b"a\\b"])
def test_a_query_that_cannot_be_sent_is_refused(query: bytes) -> None:
    """Before it reaches the request line."""
    with pytest.raises(InvalidQuery):
        target(BASE, b"/x", query)


PIECES = st.sampled_from(
    [b"/", b".", b"..", b"%2e", b"%2F", b"%5c", b"\\", b";", b"a", b":", b"@", b"//", b"%25", b"\r"]
)


@given(st.lists(PIECES | st.binary(max_size=3)).map(b"".join), st.binary(max_size=5))
@example(b"/a/../b", b"")
def test_no_target_leaves_the_upstream(path: bytes, query: bytes) -> None:
    """Whatever is asked, it is refused, or goes on byte for byte below the base URL, however a server reads it."""
    try:
        made = target(BASE, path, query)
    except InvalidQuery:
        return
    assert made == b"/api" + path + (b"?" + query if query else b"")
    assert re.fullmatch(rb"[\x21-\x7e]+", made)
    depth = 0
    for segment in re.split(rb"[/\\]", unquote_to_bytes(path)):
        depth += -1 if segment.split(b";")[0] == b".." else segment not in (b"", b".")
        assert depth >= 0


def test_credentials_leave_the_query() -> None:
    """In any spelling that a server would read as one; the rest stays as it was."""
    assert without_credentials(b"alt=sse&key=k&%6Bey=k&KEY=k&api_key=k&ticket=t&a=%20&b&key") == b"alt=sse&a=%20&b"
    assert without_credentials(b"") == b""
    assert without_credentials(b"monkey=1&x=key=2") == b"monkey=1&x=key=2"
