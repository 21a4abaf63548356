"""Requests in flight over one connection to Facet, each with the times of its tokens.

Written from common/protocol/README.md. What a bench asks must be answered: a request that ends in
an error, and silence, raise BenchError; one that is told to come back later does so.
"""

import json
import os
import time

import msgpack
import zmq

CHUNK = 1 << 20
SILENCE_S = 240.0


class BenchError(RuntimeError):
    pass


class Ask:
    """One request. Times are time.monotonic() seconds; `times` has one entry for each token."""

    def __init__(self, text, max_tokens, images=(), **params):
        self.id, self.images = os.urandom(16), list(images)
        content = [{"type": "image", "image": i} for i in range(len(self.images))]
        content.append({"type": "text", "text": text})
        self.messages = [{"role": "user", "content": content}]
        self.params = {"max_tokens": max_tokens, "ignore_eos": True, **params}
        self.sent = self.ended = None
        self.times, self.done, self.attempts_to_send = [], None, 0

    @property
    def first(self):
        return self.times[0]

    def first_token_s(self):
        return self.first - self.sent

    def prompt_tokens(self):
        return self.done["usage"]["prompt_tokens"]


class LoadClient:
    """`run` asks everything and returns when all is answered."""

    def __init__(self, socket_path):
        self.sock = zmq.Context.instance().socket(zmq.DEALER)
        self.sock.linger = 0
        self.sock.sndhwm = self.sock.rcvhwm = 0
        self.sock.connect("ipc://" + socket_path)
        self.alive = lambda: True  # asked during silence; says in words why nothing will come

    def close(self):
        self.sock.close()

    def _send(self, kind, ask_id, *chunk, **keys):
        head = msgpack.packb({"v": 1, "type": kind, "id": ask_id, **keys})
        self.sock.send_multipart([head, *chunk], copy=False)

    def submit(self, ask):
        if ask.sent is None:
            ask.sent = time.monotonic()
        ask.attempts_to_send += 1
        for i, image in enumerate(ask.images):
            for at in range(0, len(image), CHUNK):
                self._send("put", ask.id, image[at:at + CHUNK], image=i, total=len(image),
                           offset=at)
        self._send("generate", ask.id, messages=ask.messages, images=len(ask.images),
                   params=ask.params)

    def run(self, asks, in_flight=None):
        """`asks` in order, at most `in_flight` unanswered at a time. Returns them as a list."""
        asks = list(asks)
        waiting, active, later = list(reversed(asks)), {}, []
        in_flight = in_flight or len(asks)
        heard = time.monotonic()
        while waiting or active or later:
            now = time.monotonic()
            for entry in [e for e in later if e[0] <= now]:
                later.remove(entry)
                active[entry[1].id] = entry[1]
                self.submit(entry[1])
            while waiting and len(active) + len(later) < in_flight:
                ask = waiting.pop()
                active[ask.id] = ask
                self.submit(ask)
            if not self.sock.poll(20 if later else 500):
                if not self.alive():
                    raise BenchError("the daemon has ended")
                if time.monotonic() - heard > SILENCE_S:
                    raise BenchError(f"no answer for {SILENCE_S:.0f} s")
                continue
            while self.sock.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                message = msgpack.unpackb(self.sock.recv())
                now = time.monotonic()
                if self._take(message, active, later, now):
                    heard = now
        return asks

    def _take(self, message, active, later, now):
        kind = message["type"]
        ask = active.get(message.get("id"))
        if ask is None:
            return False
        if kind == "tokens":
            if message["index"] != len(ask.times):
                raise BenchError(f"token {message['index']} after {len(ask.times)}")
            ask.times += [now] * len(message["ids"])
        elif kind == "refused":
            if not message["retry_after_ms"]:
                raise BenchError(f"refused: {message['code']}: {message['message']}")
            del active[ask.id]
            later.append((now + message["retry_after_ms"] / 1000, ask))
        elif kind == "done":
            if message["finish_reason"] != "length":
                raise BenchError(f"ended with {message['finish_reason']}: "
                                 f"{message.get('code')}: {message.get('message')}")
            ask.done, ask.ended = message, now
            del active[ask.id]
        return True

    def status(self, timeout_s=10.0):
        self.sock.send(msgpack.packb({"v": 1, "type": "status"}))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.sock.poll(100):
                message = msgpack.unpackb(self.sock.recv())
                if message["type"] == "status":
                    return json.loads(message["json"])
        raise BenchError("no status")
