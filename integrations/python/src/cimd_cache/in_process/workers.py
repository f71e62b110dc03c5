"""Threads for calls of the component, so that whoever waits for one can give up.

Not concurrent.futures' executor: at exit the interpreter waits for its threads, and one that waits for a server
which is gone would keep the process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError("most_calls is at least 1")
        self._most, self._count = most, 0
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begins it as soon as a thread is free, unless the future is cancelled before."""
        future: Future[T] = Future()
        self._jobs.put((future, work))
        if not self._idle.acquire(blocking=False):
            with self._lock:
                if self._count < self._most:
                    self._count += 1
                    name = f"cimd-cache-{self._count}"
                    arguments = (self._jobs, self._idle)
                    threading.Thread(target=_serve, args=arguments, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """The threads end when they have done what they do."""
        with self._lock:
            count, self._count = self._count, self._most
        for _ in range(count):
            self._jobs.put(None)

    def __del__(self) -> None:
        self.close()


def _serve(jobs: SimpleQueue[_Job | None], idle: threading.Semaphore) -> None:
    while True:
        job = jobs.get()
        if job is None:
            return
        future, work = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
        # Nor must an idle thread keep alive what it did last.
        del future, work, job
        idle.release()
