"""Logins at the authorize endpoints of two FastMCP servers on one cache."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from nodes import SECONDS, Pair, away

OLD, NEW = "https://app.example/old", "https://app.example/new"


def document(client_id: str, redirect_uri: str = OLD, **more: Any) -> dict[str, Any]:
    return {"client_id": client_id, "client_name": "An app", "redirect_uris": [redirect_uri], **more}


def test_ten_logins_fetch_once_and_after_a_restart_none(nodes: Pair, client_id: str) -> None:
    nodes.origin.serve(client_id, document(client_id))
    for number in range(10):
        assert nodes.nodes[number % 2].login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 1

    nodes.restart_nodes()
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 1

    nodes.a.delete(client_id)
    assert nodes.b.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 2
    assert nodes.a.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 2


@pytest.mark.parametrize("where", ["on the node that fetches", "on the other node"])
def test_a_fetch_under_way_does_not_bring_back_what_was_deleted(nodes: Pair, client_id: str, where: str) -> None:
    nodes.origin.serve(client_id, document(client_id, OLD))
    with ThreadPoolExecutor() as threads:
        with nodes.origin.hold(client_id) as held:
            login = threads.submit(nodes.a.login, client_id, OLD)
            assert held.arrived.wait(SECONDS)
            nodes.origin.serve(client_id, document(client_id, NEW))
            (nodes.a if where == "on the node that fetches" else nodes.b).delete(client_id)
        assert login.result().is_accepted, "what was fetched is good for the request that fetched it"
    assert OLD not in nodes.row(client_id)
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
        assert node.login(client_id, NEW).is_accepted
    assert nodes.origin.fetches[client_id] == 2


def test_a_rotated_redirect_uri_is_seen_after_a_purge(nodes: Pair, client_id: str) -> None:
    nodes.origin.serve(client_id, document(client_id, OLD))
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_accepted
    nodes.origin.serve(client_id, document(client_id, NEW))
    for node in nodes.nodes:
        assert node.login(client_id, NEW).is_refused
    assert nodes.origin.fetches[client_id] == 1

    nodes.b.purge()
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
        assert node.login(client_id, NEW).is_accepted
    assert nodes.origin.fetches[client_id] == 2


def test_an_expired_document_is_fetched_again(nodes: Pair, client_id: str) -> None:
    nodes.origin.serve(client_id, document(client_id), Cache_Control="max-age=600")
    assert nodes.a.login(client_id, OLD).is_accepted
    assert nodes.row(client_id).endswith(" 10")
    nodes.origin.serve(client_id, document(client_id, NEW))
    nodes.postgres.sql(f"update cimd_cache.client_id_metadata set expires_at = now() where url = '{client_id}'")
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
    assert nodes.origin.fetches[client_id] == 2
    assert nodes.row(client_id).endswith(" 60"), "without headers FastMCP keeps a document for an hour"


@pytest.mark.parametrize("what", ["service stopped", "service hung", "database stopped"])
def test_while_the_cache_is_away_each_login_fetches(nodes: Pair, client_id: str, what: str) -> None:
    if what.startswith("service") and nodes.backing != "service":
        pytest.skip("there is no service in process")
    nodes.origin.serve(client_id, document(client_id))
    with away(nodes, what):
        for number in range(4):
            assert nodes.nodes[number % 2].login(client_id, OLD).is_accepted
            assert nodes.origin.fetches[client_id] == number + 1
    for node in nodes.nodes:
        assert "the cache is away" in node.log()
    assert nodes.row(client_id) == ""

    for node in (nodes.a, nodes.b, nodes.a):
        assert node.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 5
    assert OLD in nodes.row(client_id)


INVALID: dict[str, dict[str, Any]] = {
    "no redirect URIs": {"redirect_uris": []},
    "a shared secret": {"token_endpoint_auth_method": "client_secret_post"},
    "a redirect URI without a scheme": {"redirect_uris": ["/callback"]},
    "more than 5 KB": {"client_name": "a" * 5_120},
}


@pytest.mark.parametrize("why", INVALID)
def test_an_invalid_document_makes_no_row(nodes: Pair, client_id: str, why: str) -> None:
    nodes.origin.serve(client_id, {**document(client_id), **INVALID[why]})
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
    assert nodes.origin.fetches[client_id] == 2
    assert nodes.row(client_id) == ""
    nodes.origin.serve(client_id, document(client_id))
    assert nodes.a.login(client_id, OLD).is_accepted, "a failure is not stored"


def test_what_is_no_json_or_is_not_there_makes_no_row(nodes: Pair, client_id: str) -> None:
    assert nodes.a.login(client_id, OLD).is_refused
    nodes.origin.serve(client_id, b"<html>")
    assert nodes.b.login(client_id, OLD).is_refused
    assert nodes.origin.fetches[client_id] == 2
    assert nodes.row(client_id) == ""


def test_the_document_of_another_client_makes_no_row(nodes: Pair, client_id: str) -> None:
    another = f"{client_id}/another"
    nodes.origin.serve(client_id, document(another))
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
    assert nodes.row(client_id) == nodes.row(another) == ""


def test_no_store_makes_no_row_and_no_cache_no_hit(nodes: Pair, client_id: str) -> None:
    nodes.origin.serve(client_id, document(client_id), Cache_Control="no-store, max-age=600")
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 2
    assert nodes.row(client_id) == ""
    nodes.origin.serve(client_id, document(client_id), Cache_Control="no-cache, max-age=600")
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_accepted
    assert nodes.origin.fetches[client_id] == 4
    assert nodes.row(client_id).endswith(" 0")


LAX: dict[str, dict[str, Any]] = {
    "of another client": {"client_id": "https://client.example/another"},
    "without redirect URIs": {"redirect_uris": None},
    "with a shared secret": {"token_endpoint_auth_method": "client_secret_post"},
}


@pytest.mark.parametrize("which", LAX)
def test_a_stored_document_is_validated_again(nodes: Pair, client_id: str, which: str) -> None:
    nodes.origin.serve(client_id, document(client_id, NEW))
    stored = {name: value for name, value in {**document(client_id, OLD), **LAX[which]}.items() if value}
    nodes.store(client_id, json.dumps(stored))
    for node in nodes.nodes:
        assert node.login(client_id, OLD).is_refused
        assert "a stored document was refused" in node.log()
        assert node.login(client_id, NEW).is_accepted
    assert nodes.origin.fetches[client_id] == 4, "it is fetched for each request"
    nodes.a.delete(client_id)
    for node in nodes.nodes:
        assert node.login(client_id, NEW).is_accepted
    assert nodes.origin.fetches[client_id] == 5
