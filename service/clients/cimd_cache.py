"""A client of `cimd-cache serve` over its Unix socket: the standard library only, to copy and adapt.

    cache = Cache("/run/cimd-cache/cache.sock")
    metadata = cache.resolve("https://client.example/metadata.json", fetch_and_validate)

Threads may share a Cache: each has a connection of its own.
"""

import http.client
import json
import logging
import socket
import threading
from urllib.parse import quote


# While the cache is away: the most documents that are fetched at once.
FETCHES = 16


class CacheError(Exception):
    """A call that failed. `code` says what to do: docs/operating.md has the list."""

    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Cache:
    def __init__(self, path, timeout=5.0):
        """`timeout` in seconds: a little more than the service's deadline, so that the service answers first."""
        self._path, self._timeout, self._local = path, timeout, threading.local()
        self._fetches = threading.BoundedSemaphore(FETCHES)

    def get(self, client_id, timeout_ms=None):
        """`{"outcome": "hit", "metadata": …, …}` or `{"outcome": "miss", "ticket": …}`."""
        headers = {} if timeout_ms is None else {"Cimd-Timeout-Ms": str(timeout_ms)}
        return self._call("GET", "/v1/document", {"client_id": client_id}, headers=headers)

    def get_many(self, client_ids):
        """The answers to 1 to 64 gets, in the same order; one that failed is `{"outcome": "error", "code": …}`."""
        return self._call("POST", "/v1/lookup", {}, json.dumps({"client_ids": client_ids}))["answers"]

    def put(self, client_id, metadata, ticket, **expiry):
        """`metadata` is the document as text, `ticket` that of the get before the fetch (None states that there is none),
        and `expires_in=SECONDS` or `expires_at=RFC3339` its lifetime. Returns "stored" or "superseded"."""
        query = {"client_id": client_id, "ticket": "none" if ticket is None else ticket, **expiry}
        # Without a ticket it must not be made twice: the second one could undo a delete in between.
        return self._call("PUT", "/v1/document", query, metadata, may_repeat=ticket is not None)["outcome"]

    def delete(self, client_id):
        """Whether there was a document."""
        return self._call("DELETE", "/v1/document", {"client_id": client_id})["had_document"]

    def purge(self):
        self._call("POST", "/v1/purge", {})

    def sweep(self, limit=1000):
        return self._call("POST", "/v1/sweep", {"limit": limit})

    def check(self):
        """Raises a `CacheError` that says what is wrong, unless the service can use its database."""
        self._call("GET", "/v1/check", {})

    def resolve(self, client_id, fetch_and_validate):
        """The document of a client, as text: from the cache, else from its origin.

        `fetch_and_validate(client_id)` returns the document as text and its lifetime in seconds, or raises; then
        nothing is stored. While the cache is away, documents are fetched for each call and not stored, a few at a time.
        """
        try:
            found = self.get(client_id, timeout_ms=250)
        except CacheError as error:
            if error.code == "invalid-url":
                raise
            logging.getLogger(__name__).warning("the cache is away, so a document is fetched and not stored: %s", error)
            if not self._fetches.acquire(timeout=self._timeout):
                raise
            try:
                return fetch_and_validate(client_id)[0]
            finally:
                self._fetches.release()
        if found["outcome"] == "hit":
            return json.dumps(found["metadata"])
        metadata, lifetime = fetch_and_validate(client_id)
        try:
            # If it is superseded, what was fetched is good for this call, and for no other one.
            self.put(client_id, metadata, found["ticket"], expires_in=lifetime)
        except CacheError as error:
            if error.code == "invalid-metadata":
                raise
            logging.getLogger(__name__).warning("a document could not be stored: %s", error)
        return metadata

    def _call(self, method, path, query, body=None, headers=None, may_repeat=True):
        # Every character but the unreserved ones: an & within a client_id must not end it.
        target = path + "?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        headers = dict(headers or {})
        if body is not None:
            body, headers["Content-Type"] = body.encode(), "application/json"
        connection = getattr(self._local, "connection", None) if may_repeat else None
        while True:
            is_kept = connection is not None
            connection = connection or _Connection(self._path, self._timeout)
            try:
                connection.request(method, target.rstrip("?"), body, headers)
                response = connection.getresponse()
                text = response.read()
                break
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                connection = self._local.connection = None
                if isinstance(error, TimeoutError):
                    raise CacheError("timed-out", "the service did not answer in time") from error
                # One that was kept may have been closed meanwhile. Calls may be repeated: puts by their ticket.
                if not is_kept:
                    raise CacheError("unavailable", f"the service does not answer: {type(error).__name__}") from error
        self._local.connection = connection
        try:
            answer = json.loads(text)
            if response.status == 200:
                return answer
            raise CacheError(answer["code"], answer["detail"])
        except (ValueError, KeyError, TypeError):
            # Not the service's own words: a proxy's, or of its HTTP library.
            raise CacheError("unavailable", f"the service answers with status {response.status}") from None
