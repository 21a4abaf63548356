"""A client of Facet's protocol for tests: one DEALER socket, many requests, every rule checked."""

import fcntl
import json
import os
import socket
import struct
import time
from dataclasses import dataclass, field

import msgpack
import zmq
from zmq.utils.monitor import recv_monitor_message

from patience import patient

CHUNK_BYTES = 1 << 20
ASK_AGAIN_S = 1.0
ANSWER_S = patient(0.3)  # then chunks take the place of a descriptor that is not answered
SILENCE_S = 3.0  # then everything open is sent again, images too, over a new connection


class ProtocolViolation(AssertionError):
    """The broker broke a promise of the protocol."""


@dataclass
class Request:
    prompt: str
    images: list = field(default_factory=list)  # encoded bytes
    params: dict = field(default_factory=dict)
    priority: str = "batch"
    deadline_ms: int | None = None
    messages: list | None = None  # instead of one turn of all images and the prompt
    id: bytes = field(default_factory=lambda: os.urandom(16))
    # What came back:
    accepted: bool = False
    refused: dict | None = None
    retry_at: float | None = None  # refused with a hint: send everything again then
    tokens: list = field(default_factory=list)
    logprobs: list = field(default_factory=list)  # pairs, as many for each token
    text: str = ""
    done: dict | None = None
    num_refusals: int = 0

    @property
    def finished(self):
        return self.done is not None or (self.refused is not None and self.retry_at is None)


def generate_message(request, next_index=0):
    parts = [{"type": "image", "image": i} for i in range(len(request.images))]
    parts.append({"type": "text", "text": request.prompt})
    messages = request.messages
    if messages is None:
        messages = [{"role": "user", "content": parts}]
    message = {"v": 1, "type": "generate", "id": request.id, "images": len(request.images),
               "messages": messages, "params": request.params,
               "next": next_index, "priority": request.priority}
    if request.deadline_ms is not None:
        message["deadline_ms"] = request.deadline_ms
    return message


class Client:
    """One that `watches` sees its connection end and need not wait for silence. One that
    `hands_over` sends the images of three in four requests as descriptors, if it can, and a request
    as soon as its last one is taken."""

    def __init__(self, socket_path, watches=False, hands_over=False):
        self.socket_path, self.watches, self.hands_over = socket_path, watches, hands_over
        self.fd_socket, self.no_fds_before, self.fd_pause_s = None, 0.0, 1.0
        self.is_torn = False  # a request went ahead of an image that was not stored then
        self.is_fd_deaf = False  # one was not answered: the others of this turn go as chunks
        self.connect()
        self.requests = {}
        self.last_heard = time.monotonic()
        self.num_resubmits = 0
        self.status_json = None
        self.waits_for_status = False
        self.status_retry_at = None

    def connect(self):
        self.is_owed = False  # the image sent last is taken, not stored yet
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.monitor = None
        if self.watches:
            self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect("ipc://" + self.socket_path)

    def close(self):
        if self.monitor is not None:
            self.socket.disable_monitor()
            self.monitor.close()
        self.socket.close()
        if self.fd_socket is not None:  # what it has not answered counts for nothing from now on
            self.fd_socket.close()
            self.fd_socket = None

    def is_cut_off(self):
        cut = False
        while self.monitor is not None and self.monitor.poll(0):
            cut |= recv_monitor_message(self.monitor)["event"] == zmq.EVENT_DISCONNECTED
        return cut

    def send(self, message, *frames):
        self.socket.send_multipart([msgpack.packb(message, use_bin_type=True), *frames])

    def put_images(self, request):
        for index, image in enumerate(request.images):
            for offset in range(0, max(len(image), 1), CHUNK_BYTES):
                self.send({"v": 1, "type": "put", "id": request.id, "image": index,
                           "total": len(image), "offset": offset},
                          image[offset:offset + CHUNK_BYTES])

    def hand_over(self, request):
        """The last answer; None: not all images were answered, so chunks must do."""
        answer = None
        try:
            if self.fd_socket is None:
                self.fd_socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.fd_socket.settimeout(ANSWER_S)
                self.fd_socket.connect(self.socket_path + ".fd")
            if self.is_owed:
                self.fd_answer()
                self.is_owed = False
            for index, image in enumerate(request.images):
                fd = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                put = {"v": 1, "type": "put_fd", "id": request.id, "image": index,
                       "total": len(image), "taken": image is request.images[-1]}
                try:
                    os.write(fd, image)
                    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
                    socket.send_fds(self.fd_socket, [msgpack.packb(put)], [fd])
                finally:
                    os.close(fd)
                answer = self.fd_answer()
                if answer["type"] == "taken":
                    self.is_owed = index == len(request.images) - 1
                    if not self.is_owed:
                        answer = self.fd_answer()
                if answer["type"] == "refused" or bytes(answer["id"]) != request.id:
                    break
        except OSError:
            self.fd_socket.close()
            self.fd_socket, self.no_fds_before = None, time.monotonic() + self.fd_pause_s
            self.is_torn = self.is_torn or self.is_owed
            self.is_fd_deaf = True
            return None
        return answer

    def fd_answer(self):
        data = self.fd_socket.recv(2048)
        if not data:
            raise ConnectionResetError
        return msgpack.unpackb(data)

    def send_images(self, request):
        """False: refused at once."""
        if (self.hands_over and not self.is_fd_deaf and request.images and request.id[0] % 4 != 0
                and time.monotonic() > self.no_fds_before):
            answer = self.hand_over(request)
            if answer is not None:
                if answer["type"] == "refused" and "id" in answer:
                    self.on_refused(request, answer)
                    return False
                if answer["type"] != "refused":
                    return True
        self.put_images(request)
        return True

    def submit(self, request):
        self.requests[request.id] = request
        request.refused = request.retry_at = None
        if not self.send_images(request):
            return request
        self.send(generate_message(request, len(request.tokens)))
        return request

    def attach(self, request, next_index):
        """Asks for a known request from a token on; the images are with the broker already."""
        self.requests[request.id] = request
        self.send(generate_message(request, next_index))
        return request

    def cancel(self, request):
        self.send({"v": 1, "type": "cancel", "id": request.id})

    def ask_for_status(self):
        self.waits_for_status, self.status_retry_at = True, None
        self.send({"v": 1, "type": "status"})

    def status(self, timeout_s=5.0):
        self.status_json = None
        asked = 0.0

        def is_answered():
            nonlocal asked
            # A client that does not keep up with its streams may miss an answer: asks again.
            if self.status_json is None and time.monotonic() > asked + ASK_AGAIN_S:
                asked = time.monotonic()
                self.ask_for_status()
            return self.status_json is not None
        self.poll_until(is_answered, timeout_s)
        return json.loads(self.status_json)

    def poll(self, timeout_s):
        """Handles what is there, waiting at most `timeout_s` for the first message."""
        self.socket.poll(int(timeout_s * 1000))
        # Looked at before what is there is taken: all that came before the end is there by then. Of
        # a daemon that left after its last answers nobody could ask for them again.
        cut = self.is_cut_off()
        self.receive()
        self.resubmit(cut)

    def receive(self):
        """Handles all that is there; what is sent after it may go as descriptors again."""
        self.is_fd_deaf = False
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self.handle(frames)

    def poll_until(self, condition, timeout_s):
        deadline = time.monotonic() + patient(timeout_s)
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s} s")
            self.poll(0.05)

    def run(self, requests, in_flight=64, timeout_s=80.0, on_turn=None):
        """Submits all, at most `in_flight` at once; returns when each is finished."""
        waiting = list(reversed(requests))
        running = []
        deadline = time.monotonic() + patient(timeout_s)
        while waiting or running:
            while waiting and len(running) < in_flight:
                running.append(self.submit(waiting.pop()))
            self.poll(0.02)
            running = [r for r in running if not r.finished]
            if on_turn:
                on_turn()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(running)} requests run and {len(waiting)} wait "
                                   f"after {timeout_s} s")
        return requests

    def resubmit(self, cut):
        now = time.monotonic()
        if self.status_retry_at is not None and now >= self.status_retry_at:
            self.ask_for_status()
        for request in self.requests.values():
            if request.retry_at is not None and now >= request.retry_at:
                self.submit(request)
        open_requests = [r for r in self.requests.values()
                         if not r.finished and r.retry_at is None]
        if not open_requests:
            self.last_heard = now
            if cut and self.waits_for_status:  # the question died with its broker
                self.ask_for_status()
        elif cut or self.is_torn or now - self.last_heard > SILENCE_S:
            self.last_heard, self.is_torn = now, False
            self.num_resubmits += 1
            self.close()  # what still comes to the old socket would mix with the repeated answer
            self.connect()
            for request in open_requests:
                self.submit(request)
            if self.waits_for_status:
                self.ask_for_status()

    def handle(self, frames):
        self.last_heard = time.monotonic()
        if len(frames) != 1:
            raise ProtocolViolation(f"{len(frames)} frames")
        message = msgpack.unpackb(frames[0], raw=False)
        if message.get("v") != 1:
            raise ProtocolViolation(f"version {message.get('v')}")
        kind = message["type"]
        if kind == "status":
            self.status_json = message["json"]
            self.waits_for_status = False
            return
        if kind == "keepalive":
            return
        if kind == "refused" and "id" not in message:  # a status: too many clients
            self.status_retry_at = self.last_heard + message["retry_after_ms"] / 1000
            return
        request = self.requests.get(bytes(message["id"]))
        if request is None:
            raise ProtocolViolation(f"{kind} for an id never sent")
        getattr(self, "on_" + kind)(request, message)

    def on_accepted(self, request, message):
        request.accepted = True

    def on_refused(self, request, message):
        if request.finished:
            return
        request.refused = message
        request.num_refusals += 1
        if message["retry_after_ms"] > 0:
            request.retry_at = time.monotonic() + message["retry_after_ms"] / 1000

    def on_tokens(self, request, message):
        if request.done is not None:
            raise ProtocolViolation("tokens after done")
        if message["index"] != len(request.tokens):
            raise ProtocolViolation(f"token index {message['index']}, expected "
                                    f"{len(request.tokens)}")
        if not message["ids"]:
            raise ProtocolViolation("tokens without a token")
        request.tokens.extend(message["ids"])
        request.text += message["text"]
        pairs = list(struct.iter_unpack("<if", message.get("logprobs", b"")))
        per_token = request.params["logprobs"] + 1 if "logprobs" in request.params else 0
        if len(pairs) != per_token * len(message["ids"]):
            raise ProtocolViolation(f"{len(pairs)} logprobs of {len(message['ids'])} tokens")
        request.logprobs.extend(pairs)

    def on_done(self, request, message):
        if request.done is not None:
            raise ProtocolViolation("done twice")
        if message["usage"]["completion_tokens"] != len(request.tokens):
            raise ProtocolViolation(f"done counts {message['usage']['completion_tokens']} tokens, "
                                    f"{len(request.tokens)} came")
        request.text += message["text"]
        request.done = message
