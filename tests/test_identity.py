"""Principals, hashes, fingerprints and tickets: the same for the same caller and request, different for any other."""

from __future__ import annotations

import base64
import itertools
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.identity import (
    MAX_CANONICAL_BYTES,
    MAX_TICKET_CHARS,
    Ticket,
    credential_of,
    fingerprint,
    is_unstable,
    key_hash,
    principal_of,
    read_ticket,
    scope_hash,
    scoped_key_hash,
    sign_ticket,
)
from resumestream.model import StreamId

SECRET, OTHER = b"s" * 32, b"o" * 32
JSON = "application/json"


# --- credentials and principals


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([("authorization", "Bearer sk-1")], []),
        ([("Authorization", "bearer  sk-1")], []),
        ([("x-api-key", "sk-1")], []),
        ([("x-goog-api-key", "sk-1")], []),
        ([("api-key", "sk-1")], []),
        ([], [("key", "sk-1")]),
        ([("x-api-key", "sk-1"), ("authorization", "Bearer sk-1")], [("key", "sk-1")]),
        ([("x-api-key", "sk-1"), ("authorization", "Bearer ")], [("key", "")]),
    ],
)
def test_a_credential_is_itself_wherever_it_stands(
    headers: list[tuple[str, str]], query: list[tuple[str, str]]
) -> None:
    """An SDK upgrade that moves the credential to another header must not lose the caller's streams."""
    assert credential_of(headers, query) == "sk-1"


@pytest.mark.parametrize("headers", [[], [("authorization", "")], [("authorization", "Bearer ")], [("cookie", "a=b")]])
def test_no_credential(headers: list[tuple[str, str]]) -> None:
    """Empty ones are none."""
    assert credential_of(headers, [("model", "x"), ("key", "")]) is None


def test_header_order_does_not_matter_and_each_one_counts() -> None:
    """A dummy in one header, shared by all callers, must not make them one principal."""
    dummy = ("authorization", "Bearer dummy")
    first, second = ("x-api-key", "sk-1"), ("x-api-key", "sk-2")
    assert credential_of([dummy, first], []) == credential_of([first, dummy], [])
    assert len({credential_of([dummy, key], []) for key in (first, second)} | {credential_of([dummy], [])}) == 3


def test_a_principal_tells_nothing_of_its_credential() -> None:
    """It depends on the store's secret and on the credential, and is stable."""
    principal = principal_of("sk-1", SECRET)
    assert principal == principal_of("sk-1", SECRET)
    assert len({principal, principal_of("sk-2", SECRET), principal_of("sk-1", OTHER), "local"}) == 4
    assert "sk-1" not in principal


def jwt(header: object) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.eyJzdWIiOiIxIn0.c2ln"


@pytest.mark.parametrize(
    ("credential", "unstable"),
    [
        (jwt({"alg": "RS256", "typ": "JWT"}), True),
        (f"a-static-one\n{jwt({'alg': 'none'})}", True),
        ("AWS4-HMAC-SHA256 Credential=AKIA/20261120/us-east-1/bedrock/aws4_request, Signature=ab", True),
        ("AWS4-ECDSA-P256-SHA256 Credential=AKIA/20261120/bedrock/aws4_request, Signature=ab", True),
        *((f"{scheme} {jwt({'alg': 'RS256'})}", True) for scheme in ("DPoP", "JWT", "Token", "token:")),
        (f"Bearer\t{jwt({'alg': 'RS256'})}", True),
        (jwt({"alg": "RSA-OAEP", "enc": "A256GCM"}) + ".a.b", True),
        (jwt({"typ": "JWT"}), False),
        (jwt(["alg"]), False),
        (jwt({"alg": "RS256"}).rpartition(".")[0], False),
        ("sk-ant-api03-AbC.dEf", False),
        ("sk.with.dots", False),
        ("..", False),
        ("é.é.é", False),
        (base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".a.b", False),
        ("sk-proj-abc", False),
    ],
)
def test_session_credentials_are_told_from_static_ones(credential: str, unstable: bool) -> None:
    """A JWT is three parts, or five, whose first is a JSON object with `alg`, under whatever scheme; SigV4 says so."""
    assert is_unstable(credential) is unstable


# --- hashes


def test_hashes_separate_purposes_and_parts() -> None:
    """No two ways of asking run together, whatever the parts hold."""
    hashes = [
        principal_of("ab", SECRET),
        key_hash(SECRET, "p", "u", "k"),
        key_hash(OTHER, "p", "u", "k"),
        key_hash(SECRET, "p", "uk", ""),
        key_hash(SECRET, "pu", "", "k"),
        key_hash(SECRET, "", "pu", "k"),
        scope_hash(SECRET, "p", "k"),
        scope_hash(SECRET, "pk", ""),
        scoped_key_hash(SECRET, "p", "u", "k", ""),
        scoped_key_hash(SECRET, "p", "u", "k", "", "1"),
        scoped_key_hash(SECRET, "p", "u", "k", "1"),
        scoped_key_hash(SECRET, "p", "u", "k1", ""),
    ]
    assert len(set(hashes)) == len(hashes)


# --- fingerprints


def of(body: bytes, content_type: str = JSON, *, method: str = "POST", path: str = "/v1/x", query: str = "") -> str:
    return fingerprint(SECRET, method, path, query, content_type, body)


SAME = [
    (b'{"a":1,"b":[2,{"c":3,"d":"\xc3\xa9"}]}', b'{ "b": [2, {"d": "\\u00e9", "c": 3}],\n "a": 1 }'),
    (b"{}", b" { } "),
    (b'{"a":0.1}', b'{"a":1e-1}'),
    (b'{"a":"\\ud800"}', b'{"a": "\\uD800"}'),
]
DIFFERENT = [
    (b'{"a":1}', b'{"a":"1"}'),
    (b'{"a":1}', b'{"a":true}'),
    (b'{"a":null}', b"{}"),
    (b"[1,2]", b"[2,1]"),
    (b'{"a":1,"a":2}', b'{"a":2}'),
    (b'{"a":1,"a":2}', b'{"a": 1,"a":2}'),
    (b'{"a":NaN}', b'{"a": NaN}'),
    (b'{"a":1e400}', b'{"a":1e500}'),
    (b"not json", b"not  json"),
    (b"\xff{}", b"{}"),
    (b"", b"null"),
    (b"[" * 5000, b"[" * 5001),
    (b"9" * 5000, b"9" * 5001),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_json_counts_as_its_value(one: bytes, two: bytes) -> None:
    """Order of names, whitespace, escapes and number spelling are not what is asked."""
    assert of(one) == of(two)


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_other_values_and_unclear_texts_differ(one: bytes, two: bytes) -> None:
    """Text without one clear value counts byte by byte."""
    assert of(one) != of(two)


def test_only_small_json_is_canonicalised() -> None:
    """Above 1 MiB the bytes count as sent."""
    small, large = b'{"a":"%s"}' % (b"x" * 100), b'{"a":"%s"}' % (b"x" * MAX_CANONICAL_BYTES)
    assert of(small) == of(small.replace(b":", b": "))
    assert of(large) != of(large.replace(b":", b": "))
    assert of(b'{"a": 1}', "text/plain") != of(b'{"a":1}', "text/plain")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_any_spelling_of_a_value_is_one_request(value: object) -> None:
    """Whatever a serializer chooses."""
    spellings = [
        json.dumps(value),
        json.dumps(value, indent=2),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, sort_keys=True),
    ]
    assert len({of(text.encode("utf-8", "surrogatepass")) for text in spellings if _encodable(text)}) == 1


def _encodable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def multipart(boundary: str, *parts: str) -> tuple[bytes, str]:
    lines = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="f"\r\n\r\n{part}\r\n' for part in parts)
    return f"{lines}--{boundary}--\r\n".encode(), f'multipart/form-data; boundary="{boundary}"'


def test_multipart_counts_without_its_boundary() -> None:
    """Every retry of an SDK invents a new one; the parts and their borders count."""
    assert of(*multipart("aaa", "x", "y")) == of(*multipart("bbbb", "x", "y"))
    assert of(*multipart("aaa", "x", "y")) != of(*multipart("aaa", "x", "z"))
    assert of(*multipart("aaa", "x", "y")) != of(*multipart("aaa", "xy", ""))
    body, content_type = multipart("aaa", "x")
    assert of(body, content_type.replace('"', "")) == of(body, content_type)
    assert of(body, "multipart/form-data") != of(body, content_type)


def test_the_media_type_counts_without_parameters() -> None:
    """A charset is not another request; another type is."""
    assert of(b"{}", "Application/JSON; charset=utf-8") == of(b"{}", JSON)
    assert len({of(b"{}", kind) for kind in (JSON, "application/x+json", "text/plain", "")}) == 4


def test_method_path_and_query_count_but_credentials_do_not() -> None:
    """A rotated `?key=` is the same request; order in the query is nothing."""
    base = of(b"{}", query="alt=sse&n=1")
    assert of(b"{}", query="n=1&key=sk-1&alt=sse&access_token=t&api_key=k") == base
    others = [
        of(b"{}", query="alt=sse&n=2"),
        of(b"{}", query="alt=sse"),
        of(b"{}", query="alt=sse&n=1&m="),
        of(b"{}", query="alt=sse&n=1", path="/v1/y"),
        of(b"{}", query="alt=sse&n=1", method="PUT"),
        fingerprint(OTHER, "POST", "/v1/x", "alt=sse&n=1", JSON, b"{}"),
    ]
    assert len({base, *others}) == 7


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "=", "&"]), min_size=4, max_size=4))
def test_no_two_targets_run_together(parts: list[str]) -> None:
    """Method, path, query and type are told apart whatever they hold."""
    method, path, query, kind = parts
    shifted = (method, path + query, "", kind)
    if shifted != (method, path, query, kind) and query.strip("&"):
        assert fingerprint(SECRET, method, path, query, kind, b"") != fingerprint(SECRET, *shifted, b"")


# --- tickets

STREAM = StreamId("st_abc-DEF_123")


@pytest.mark.parametrize("expires_at", [None, 100.5])
def test_a_ticket_comes_back_whole(expires_at: float | None) -> None:
    """Stream, actions and expiry, in a token that needs no escaping in a URL."""
    token = sign_ticket([SECRET], STREAM, ("read", "stop"), expires_at)
    assert read_ticket([SECRET], token, 100.0) == Ticket(STREAM, frozenset({"read", "stop"}), expires_at)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert len(token) < 200


def test_a_ticket_expires() -> None:
    """At its time, not after."""
    token = sign_ticket([SECRET], STREAM, ("read",), 100.0)
    assert read_ticket([SECRET], token, 99.9)
    assert read_ticket([SECRET], token, 100.0) is None


def test_secrets_rotate() -> None:
    """Signed with the first, accepted under any that is still listed."""
    token = sign_ticket([SECRET, OTHER], STREAM, ("read",), None)
    assert read_ticket([OTHER, SECRET], token, 0)
    assert read_ticket([OTHER], token, 0) is None
    assert read_ticket([], token, 0) is None


def test_every_changed_character_voids_a_ticket() -> None:
    """No part of the token is free to choose."""
    token = sign_ticket([SECRET], STREAM, ("read",), None)
    for place, character in itertools.product(range(len(token)), "Aa0._é"):
        forged = token[:place] + character + token[place + 1 :]
        assert forged == token or read_ticket([SECRET], forged, 0) is None


@pytest.mark.parametrize(
    "token", ["", ".", "..", "v1", "v1..", "v2.a.b", "v1.e30.", "é", "v1." + "a" * MAX_TICKET_CHARS]
)
def test_garbage_is_no_ticket(token: str) -> None:
    """Nothing a stranger sends raises."""
    assert read_ticket([SECRET], token, 0) is None


def test_an_overlong_ticket_is_not_even_checked() -> None:
    """The bound holds also for what was signed here."""
    assert read_ticket([SECRET], sign_ticket([SECRET], StreamId("s" * MAX_TICKET_CHARS), ("read",), None), 0) is None


@given(st.text())
def test_any_text_is_read_or_refused(token: str) -> None:
    """No input makes it fail in another way."""
    assert read_ticket([SECRET], token, 0) is None
