"""LIST: finding streams."""

from __future__ import annotations

from typing import Any

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check


def listed(ctx: Context, query: str = "", **options: Any) -> list[str]:
    """The ids that `GET /streams?{query}` lists."""
    answer = ctx.get("/streams" + (f"?{query}" if query else ""), **options).has_status(200)
    return [entry["id"] for entry in answer.json()["streams"]]


def made(ctx: Context, name: str = "", **headers: str) -> str:
    """A stream that has ended, with a key of that name unless a header has what it is found by."""
    key = None if headers or not name else f"{ctx.key}-{name}"
    named = {f"stream-{header}": value for header, value in headers.items()}
    stream = ctx.post(Script(tokens=2), key=key, headers=named).has_status(200).ends_framed().stream
    ctx.sealed(stream)
    return stream


def labelled(ctx: Context, labels: list[str]) -> Answer:
    """A call with so many `Stream-Label` headers."""
    body, named = request_body(CHAT), [("stream-label", label) for label in labels]
    return ctx.post(wire=ctx.wire("POST", f"/main{CHAT}", ("content-length", str(len(body))), *named, body=body))


@check("RS-LIST-01")
def own_ones(ctx: Context) -> None:
    """The list has the caller's streams, the newest first, and not another principal's."""
    first, second = made(ctx), made(ctx)
    foreign = ctx.post(Script(tokens=2), headers=ctx.stranger).ends_framed().stream
    seen = listed(ctx)
    ctx.expect(seen == [second, first], f"[{second}, {first}]", seen)
    seen = listed(ctx, headers=ctx.stranger)
    ctx.expect(seen == [foreign], f"[{foreign}]", seen)


@check("RS-LIST-02")
def filters(ctx: Context) -> None:
    """Each filter leaves the streams that have it, and two labels those that have both."""
    one, two = made(ctx, label="one"), made(ctx, label="one, two")
    keyed, scoped = made(ctx, "key"), made(ctx, scope=f"{ctx.key}-scope")
    live = ctx.post(Script(tokens=9, hold_at=3)).until_events(3).stream
    wanted = {
        "state=streaming": [live],
        "state=sealed": [scoped, keyed, two, one],
        "upstream=main": [live, scoped, keyed, two, one],
        "upstream=conformance-none": [],
        f"key={ctx.key}-key": [keyed],
        f"scope={ctx.key}-scope": [scoped],
        "label=one": [two, one],
        "label=one&label=two": [two],
        "label=one&state=streaming": [],
    }
    for query, streams in wanted.items():
        seen = listed(ctx, query)
        ctx.expect(seen == streams, str(streams), seen, f"GET /streams?{query}")


@check("RS-LIST-03")
def finding_makes_nothing(ctx: Context) -> None:
    """Looking for keys and scopes that nobody used finds nothing, calls nothing, and leaves the key unused."""
    for query in (f"key={ctx.key}", f"scope={ctx.key}", "label=none", ""):
        seen = listed(ctx, query)
        ctx.expect(seen == [], "no streams", seen, f"GET /streams?{query}")
    ctx.upstream.count_is(0)
    ctx.post().has_status(200).lacks_header("idempotent-replayed").ends_framed()


@check("RS-LIST-04")
def page_by_page(ctx: Context) -> None:
    """`next` leads through the whole list, each stream once, whatever is made meanwhile; the last page has none."""
    streams = [made(ctx) for _ in range(5)]
    query, seen = "limit=2", list[str]()
    for count in (2, 2, 1):
        page = ctx.get(f"/streams?{query}").has_status(200).json()
        seen += [entry["id"] for entry in page["streams"]]
        ctx.expect(len(page["streams"]) == count, f"{count} streams", page, query)
        ctx.expect(bool(page.get("next")) == (count == 2), "next if and only if there is more", page, query)
        query = f"limit=2&after={page.get('next')}"
        made(ctx)
    ctx.expect(seen == streams[::-1], str(streams[::-1]), seen)


@check("RS-LIST-05")
def bad_queries(ctx: Context) -> None:
    """A limit that is none, an unknown state and an unknown cursor are refused."""
    for query in ("limit=0", "limit=x", "limit=-1", "limit=999999999999", "state=ended", "after=conformance-none"):
        ctx.get(f"/streams?{query}").is_problem(400, "invalid-query")


@check("RS-LIST-06")
def entries(ctx: Context) -> None:
    """The entry of a stream is its `info`, for one that completed, one that failed and one that was deleted."""
    ended = [
        ctx.post(script, key=None).end() for script in (Script(tokens=5), Script(tokens=9, fault="rst", at_event=3))
    ]
    gone = made(ctx, label="one")
    ctx.ask("DELETE", f"/streams/{gone}").has_status(204)
    for stream in (*(ctx.sealed(answer.stream).stream for answer in ended), gone):
        entries = [entry for entry in ctx.get("/streams").json()["streams"] if entry["id"] == stream]
        told = ctx.info(stream)
        ctx.expect(entries == [told], str([told]), entries, "GET /streams")


@check("RS-LIST-07")
def labels(ctx: Context) -> None:
    """Eight `Stream-Label` headers are eight labels in the record; a ninth is refused, and nothing is called."""
    names = [f"label-{number}" for number in range(9)]
    stream = labelled(ctx, names[:8]).has_status(200).ends_framed().stream
    told = ctx.info(stream)["labels"]
    ctx.expect(sorted(told) == names[:8], str(names[:8]), told)
    labelled(ctx, names).is_problem(400, "invalid-header")
    ctx.upstream.count_is(1)


@check("RS-LIST-08")
def bad_labels(ctx: Context) -> None:
    """Labels with other characters than a key may have, and too long ones, are refused."""
    for label in ("", "two words", "a/b", "\xe9", "x" * 256):
        ctx.post(headers={"stream-label": label}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-LIST-09")
def scope_of_all_upstreams(ctx: Context) -> None:
    """One scope at two upstreams finds the streams of both, and no other."""
    made(ctx, scope=f"{ctx.key}-2")
    scope = {"stream-scope": ctx.key}
    here = ctx.post(key=None, headers=scope).has_status(200).ends_framed().stream
    there = ctx.post(key=None, headers=scope, upstream="other").has_status(200).ends_framed().stream
    seen = listed(ctx, f"scope={ctx.key}")
    ctx.expect(seen == [there, here], f"[{there}, {here}]", seen)
