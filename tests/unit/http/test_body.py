"""Bodies are read up to a limit, however they are encoded."""

import asyncio
import gzip
import tracemalloc
import zlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.http.body import BodyTooLarge, UnreadableBody, ask, read_bounded
from tests.support.streams import Parts

LIMIT = 1000
BOMB = gzip.compress(b"\0" * 2**24)


def read(*parts: bytes, encoding: str | None = None, limit: int = LIMIT) -> bytes:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    response = httpx.Response(200, headers=headers, stream=Parts(parts))
    return asyncio.run(read_bounded(response, limit))


@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from([None, "", "identity"]))
def test_a_plain_body_is_read_whole_or_not_at_all(parts: list[bytes], encoding: str | None) -> None:
    whole = b"".join(parts)
    if len(whole) <= LIMIT:
        assert read(*parts, encoding=encoding) == whole
    else:
        with pytest.raises(BodyTooLarge) as error:
            read(*parts, encoding=encoding)
        assert error.value.beginning == whole[:LIMIT]


@given(st.binary(max_size=2 * LIMIT), st.integers(1, 50))
def test_one_layer_of_gzip_or_deflate_is_decoded_up_to_the_limit(body: bytes, size: int) -> None:
    for encoding, sent in [
        ("gzip", gzip.compress(body)),
        ("X-GZIP", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
    ]:
        parts = [sent[start : start + size] for start in range(0, len(sent), size)]
        if len(body) <= LIMIT:
            assert read(*parts, encoding=encoding) == body
        else:
            with pytest.raises(BodyTooLarge):
                read(*parts, encoding=encoding)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "nonsense"])
def test_any_other_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableBody, match="encoded"):
        read(b"anything", encoding=encoding)
    assert read(encoding=encoding) == b""  # the answer to a HEAD has no body


@pytest.mark.parametrize(
    ("sent", "words"),
    [(b"no gzip", "cannot be decoded"), (gzip.compress(b"x" * 500, mtime=0)[:-9], "cut off")],
)
def test_a_broken_encoding_is_refused(sent: bytes, words: str) -> None:
    with pytest.raises(UnreadableBody, match=words):
        read(sent, encoding="gzip")


@pytest.mark.parametrize(
    ("bomb", "encoding"), [(BOMB, "gzip"), (gzip.compress(BOMB), "gzip, gzip")]
)
def test_a_bomb_takes_little_memory(bomb: bytes, encoding: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableBody):
            read(bomb, encoding=encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**20


def test_a_call_asks_for_an_unencoded_answer_and_reads_no_bomb() -> None:
    asked: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        headers = {"Content-Encoding": "gzip"}
        return httpx.Response(200, headers=headers, stream=Parts((BOMB,)))

    async def call() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await ask(http, "GET", "http://test/", largest=LIMIT, seconds=9, headers={"X-A": "1"})

    with pytest.raises(BodyTooLarge):
        asyncio.run(call())

    (headers,) = asked
    assert (headers["accept-encoding"], headers["x-a"]) == ("identity", "1")
