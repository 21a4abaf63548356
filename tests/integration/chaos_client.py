"""A client that loses nothing, by the three rules of common/protocol/README.md, and keeps count."""

import json
import time

import msgpack
import zmq

from pool_client import Client, ProtocolViolation

SILENCE_S = 3.0  # without a message at all, or about a request
NO_ANSWER_S = 6.0  # to a `generate`
MOST_DOUBLINGS = 4  # of either, while nothing comes: a host may be too busy for so many repeats
LONGEST_TURN_S = 0.5  # one that took longer: the host did not let us run


def doubled(seconds, times):
    return seconds * 2 ** max(0, min(times, MOST_DOUBLINGS))


class ChaosClient(Client):
    """Broken promises of the protocol are counted in `violations`, as (kind, text) with kind
    "doubled" or "lost", and the client goes on.
    """

    def __init__(self, socket_path, watches):
        super().__init__(socket_path, watches, hands_over=True)
        self.open = {}
        self.violations = []
        self.statuses = {}  # the last of each epoch
        self.num_reconnects = 0
        self.num_in_vain = 0  # reconnections since anything came about a request
        self.num_retried = 0  # of those that are finished: took more than one attempt

    def submit(self, request):
        request.sent = time.monotonic()
        request.epoch = None
        request.num_sent = getattr(request, "num_sent", 0) + 1
        self.open[request.id] = request
        return super().submit(request)

    def ask_again(self, request):
        """What was accepted needs no images any more."""
        if not request.accepted:
            self.submit(request)
            return
        request.sent, request.epoch = time.monotonic(), None
        request.num_sent += 1
        self.attach(request, len(request.tokens))

    def reconnect(self):
        self.close()
        self.num_reconnects += 1
        self.num_in_vain += 1
        self.connect()
        self.last_heard = time.monotonic()
        for request in list(self.open.values()):
            if request.retry_at is None:
                self.ask_again(request)

    def turn(self):
        """Handles all that is there; asks again where the rules say so."""
        self.receive()
        for request in [r for r in self.open.values() if r.finished]:
            del self.open[request.id]
            self.num_retried += request.done is not None and request.done["attempts"] > 1
        now = time.monotonic()
        for request in list(self.open.values()):
            if request.retry_at is not None and now >= request.retry_at:
                self.submit(request)
        if self.is_cut_off() or self.must_reconnect(now):
            self.reconnect()

    def why_open(self):
        now = time.monotonic()
        return "\n".join(
            f"{r.id.hex()}: accepted {r.accepted}, {len(r.tokens)} tokens, epoch {r.epoch}, sent "
            f"{now - r.sent:.1f} s ago, refused {r.num_refusals} times, last {r.refused}"
            for r in self.open.values()) + f"\nheard {now - self.last_heard:.1f} s ago"

    def must_reconnect(self, now):
        waiting = [r for r in self.open.values() if r.retry_at is None]
        if not waiting:
            self.last_heard = now
        silence_s = doubled(SILENCE_S, self.num_in_vain)
        if now - self.last_heard > silence_s:
            return True
        for request in waiting:
            if request.epoch is None:
                if now - request.sent > doubled(NO_ANSWER_S, request.num_sent - 1):
                    return True
            elif now - request.heard > silence_s:
                return True
        return False

    def handle(self, frames):
        message = msgpack.unpackb(frames[0], raw=False)
        self.last_heard = time.monotonic()
        if message["type"] == "status":
            status = json.loads(message["json"])
            self.statuses[status["epoch"]] = status
        elif message["type"] == "keepalive":
            self.on_keepalive(message["epoch"])
        try:
            super().handle(frames)
        except ProtocolViolation as broken:
            known = self.requests.get(bytes(message.get("id", b"")))
            is_gap = (message["type"] == "tokens" and known is not None
                      and message["index"] > len(known.tokens))
            self.violations.append(("lost" if is_gap else "doubled", str(broken)))

    def on_keepalive(self, epoch):
        for request in self.open.values():
            if request.epoch == epoch:
                request.heard = self.last_heard
            elif request.epoch is not None:  # a new broker does not know that we listen
                request.heard = 0.0

    def on_accepted(self, request, message):
        super().on_accepted(request, message)
        request.epoch, request.heard = message["epoch"], self.last_heard
        request.num_sent = self.num_in_vain = 0

    def on_refused(self, request, message):
        super().on_refused(request, message)
        request.num_sent = self.num_in_vain = 0

    def on_tokens(self, request, message):
        request.heard = self.last_heard
        self.num_in_vain = 0
        super().on_tokens(request, message)


def run_load(clients, requests, in_flight, on_turn, stall_s):
    """Asks all, at most `in_flight` at once, dealt out to the clients in turn.

    Ends when all are finished or when nothing has moved for `stall_s` in which we were awake.
    `on_turn(num_finished)` is called between turns.
    """
    waiting = list(reversed(requests))
    num_started = num_open = num_asked = 0
    before, still_s, state = time.monotonic(), 0.0, None
    while waiting or num_open:
        while waiting and num_open < in_flight:
            clients[num_started % len(clients)].submit(waiting.pop())
            num_started += 1
            num_open += 1
        poller = zmq.Poller()
        for client in clients:
            poller.register(client.socket, zmq.POLLIN)
        poller.poll(10)
        for client in clients:
            client.turn()
        num_open = sum(len(c.open) for c in clients)
        on_turn(num_started - num_open)
        now = time.monotonic()
        still_s += min(now - before, LONGEST_TURN_S)
        before = now
        if now > num_asked + 1.0:
            num_asked = now
            clients[0].ask_for_status()
        now_state = num_started, num_open, sum(len(r.tokens) for c in clients
                                               for r in c.open.values())
        if now_state != state:
            still_s, state = 0.0, now_state
        if still_s > stall_s:
            return
