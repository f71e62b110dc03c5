"""The Python client of service/clients as a way in: see tests/conformance/README.md."""

import json
import os
import sys
import threading
from datetime import datetime, timedelta, timezone

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../service/clients"))
from cimd_cache import Cache, CacheError  # noqa: E402

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
cache = Cache(os.environ["CIMD_CACHE_SOCKET"], timeout=20)
output = threading.Lock()


def looked(answer):
    if answer["outcome"] == "hit":
        expires_at = datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))
        metadata = json.dumps(answer["metadata"])
        return {**answer, "metadata": metadata, "expires_at": int((expires_at - EPOCH).total_seconds())}
    return answer


def put(client_id, metadata, ticket=None, expires_in=None, expires_at=None):
    if expires_at is not None:
        expiry = {"expires_at": (EPOCH + timedelta(seconds=expires_at)).isoformat().replace("+00:00", "Z")}
    else:
        expiry = {"expires_in": expires_in}
    return {"outcome": cache.put(client_id, metadata, ticket, **expiry)}


def one(answer):
    return {"error": answer["code"]} if answer["outcome"] == "error" else {"ok": looked(answer)}


CALLS = {
    "hello": lambda: {"name": "python", "version": "0.1.0", "calls": [call for call in CALLS if call != "hello"]},
    "get": lambda client_id: looked(cache.get(client_id)),
    "get-many": lambda client_ids: {"answers": [one(answer) for answer in cache.get_many(client_ids)]},
    "put": put,
    "delete": lambda client_id: {"had_document": cache.delete(client_id)},
    "purge": lambda: cache.purge() or {},
    "sweep": cache.sweep,
    "check": lambda: cache.check() or {},
}


def answer(request):
    call = CALLS.get(request["call"])
    try:
        result = {"ok": call(**request["args"])} if call else {"error": "no call " + request["call"]}
    except CacheError as error:
        result = {"error": error.code}
    with output:
        print(json.dumps({"id": request["id"], **result}), flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
