"""What is refused before anything is sent, and how a document is cut out of an answer."""

from __future__ import annotations

import json
import pickle
from datetime import datetime

import pytest
from cimd_cache import Cache, CimdCacheError, calls
from cimd_cache.service.members import elements, members
from cimd_cache.service.protocol import answer, request
from cimd_cache.service.target import target

ID = "https://client.example/metadata.json"


@pytest.mark.parametrize("client_id", ["", "a" * 2_049, "é" * 1_025, "a\0", "a\ud800"])
def test_what_cannot_be_a_key_is_refused(client_id: str) -> None:
    for call in (lambda: calls.get(client_id), lambda: calls.delete(client_id)):
        with pytest.raises(CimdCacheError) as failed:
            call()
        assert failed.value.code == "invalid-url"


def test_the_longest_key_is_sent() -> None:
    assert "%C3%A9" * 1_024 in request(calls.get("é" * 1_024)).target


@pytest.mark.parametrize("metadata", ["x" * 16_385, "é" * 8_193, "\ud800", b"\xff"])
def test_what_cannot_be_a_document_is_refused(metadata: str) -> None:
    with pytest.raises(CimdCacheError) as failed:
        calls.put(ID, metadata, None, 60, None)
    assert failed.value.code == "invalid-metadata"


def test_an_expiry_is_one_of_two() -> None:
    for expires_in, expires_at in ((None, None), (60, datetime.now())):
        with pytest.raises(TypeError):
            calls.put(ID, "{}", None, expires_in, expires_at)
    for expires_in, expires_at in ((-1, None), (None, datetime(2030, 1, 1))):
        with pytest.raises(CimdCacheError) as failed:
            calls.put(ID, "{}", None, expires_in, expires_at)
        assert failed.value.code == "invalid-expiry"
    assert "expires_in=9007199254740992" in request(calls.put(ID, "{}", None, 10**30, None)).target


@pytest.mark.parametrize("ticket", ["none", "a b\n", "é"])
def test_what_cannot_be_a_ticket_is_refused(ticket: str) -> None:
    """Above all `none`, by which the service is told that there is none."""
    with pytest.raises(CimdCacheError) as failed:
        calls.put(ID, "{}", ticket, 60, None)
    assert failed.value.code == "invalid-ticket"


def test_every_byte_of_a_key_that_could_mean_something_is_encoded() -> None:
    sent = request(calls.get("https://c.example/?a=1&b=%26+ é#x")).target
    assert sent == "/v1/document?client_id=https%3A%2F%2Fc.example%2F%3Fa%3D1%26b%3D%2526%2B%20%C3%A9%23x"


def test_a_put_without_a_ticket_is_never_sent_twice() -> None:
    assert request(calls.put(ID, "{}", "t", 60, None)).is_repeatable
    assert not request(calls.put(ID, "{}", None, 60, None)).is_repeatable


def test_members_come_as_they_stand_in_the_text() -> None:
    text = ' { "a" : 1.500000000000000000001 , "m":{"x":"}\\"","y":[{}]},"s":"\\u0041" } '
    assert members(text) == {"a": "1.500000000000000000001", "m": '{"x":"}\\"","y":[{}]}', "s": '"\\u0041"'}
    assert members("{}") == {} and elements("[]") == []
    assert elements(' [ {"a":1} , 2 ] ') == ['{"a":1}', "2"]
    for broken in ("", "[]", "{", '{"a"', '{"a":1', '{"a":1,}', "{1:2}", "null"):
        with pytest.raises(ValueError):
            members(broken)
    for broken in ("", "{}", "[", "[1", "[1,"):
        with pytest.raises(ValueError):
            elements(broken)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, "<html>"),
        (404, "{}"),
        (200, "<html>"),
        (200, "{}"),
        (200, '{"outcome":"hit","ticket":"t"}'),
        (200, '{"outcome":"hit","metadata":[],"expires_at":"2030-01-01T00:00:00Z","fresh_for_ms":1,"ticket":"t"}'),
        (200, '{"outcome":"absent","ticket":"t"}'),
    ],
)
def test_an_answer_that_is_not_the_service_s_is_no_miss(status: int, body: str) -> None:
    with pytest.raises(CimdCacheError) as failed:
        answer(calls.get(ID), status, body.encode())
    assert failed.value.code == "unavailable"


def test_answers_to_many_are_put_in_place() -> None:
    call = calls.get_many(["", "a", "b" * 3_000, "c"])
    assert json.loads(request(call).body or b"") == {"client_ids": ["a", "c"]}
    miss, error = '{"outcome":"miss","ticket":"t"}', '{"outcome":"error","code":"storage","detail":"d"}'
    found = answer(call, 200, f'{{"answers":[{miss},{error}]}}'.encode())
    assert [getattr(one, "code", None) for one in found] == ["invalid-url", None, "invalid-url", "storage"]
    for wrong in (f'{{"answers":[{miss}]}}', f'{{"answers":[{miss},{miss},{miss}]}}'):
        with pytest.raises(CimdCacheError):
            answer(call, 200, wrong.encode())


def test_where_a_service_may_be() -> None:
    assert target("/run/a.sock").socket == target("unix:/run/a.sock").socket == "/run/a.sock"
    assert target("http://127.0.0.1:8080").host_header == "127.0.0.1:8080"
    assert target("https://cache.example/").host_header == "cache.example"
    assert target("http://[::1]:81/p/").host_header == "[::1]:81" and target("http://h/p/").path == "/p"
    for wrong in ("", "cache.sock", "ftp://h", "http://", "http://user:secret@h", "http://h/?q"):
        with pytest.raises(ValueError) as failed:
            Cache.connect(wrong)
        assert "secret" not in str(failed.value)


def test_an_error_survives_being_pickled() -> None:
    error = pickle.loads(pickle.dumps(CimdCacheError("storage", "look")))
    assert (error.code, error.detail, str(error)) == ("storage", "look", "storage: look")
