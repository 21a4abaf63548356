"""Many questions in flight over one connection to Facet, and a private daemon to ask.

The protocol is common/protocol/README.md; its three rules for a client are in `Pool.run`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time

import msgpack
import zmq

CHUNK = 1 << 20
SILENCE_S = 3.0


class Refused(RuntimeError):
    pass


class _Request:
    def __init__(self, number, images, question, max_tokens):
        self.number, self.images = number, images
        self.id = os.urandom(16)
        self.ids, self.text, self.epoch = [], "", None
        content = [{"type": "image", "image": i} for i in range(len(images))]
        content.append({"type": "text", "text": question})
        self.messages = [{"role": "user", "content": content}]
        self.params = {"max_tokens": max_tokens}

    def send(self, sock, with_images):
        def put(kind, *chunk, **keys):
            head = msgpack.packb({"v": 1, "type": kind, "id": self.id, **keys})
            sock.send_multipart([head, *chunk])
        for i, image in enumerate(self.images if with_images else []):
            for at in range(0, len(image), CHUNK):
                put("put", image[at:at + CHUNK], image=i, total=len(image), offset=at)
        put("generate", messages=self.messages, images=len(self.images), params=self.params,
            next=len(self.ids))

    def take(self, index, ids, text):
        """False when there is a gap: the broker is then asked again."""
        if index > len(self.ids):
            return False
        fresh = ids[len(self.ids) - index:]
        if fresh:
            self.ids += fresh
            self.text += text
        return True


class Pool:
    """`run` asks every (images, question) and yields (number, token ids, text, attempts)."""

    def __init__(self, socket_path, in_flight=64, max_tokens=16, patience_s=120, params=None):
        """`params`: sampling parameters besides max_tokens, as the protocol names them."""
        self.address = "ipc://" + socket_path
        self.params = params or {}
        self.in_flight, self.max_tokens, self.patience_s = in_flight, max_tokens, patience_s
        self.sock = None

    def _connect(self):
        if self.sock is not None:
            self.sock.close()
        self.sock = zmq.Context.instance().socket(zmq.DEALER)
        self.sock.linger = 0
        self.sock.sndhwm = 0
        self.sock.connect(self.address)

    def run(self, items):
        """`items`: iterable of (list of encoded images, question)."""
        items = enumerate(items)
        active, later, exhausted = {}, [], False
        self._connect()
        heard = answered = time.monotonic()
        while True:
            now = time.monotonic()
            for due, request in [entry for entry in later if entry[0] <= now]:
                later.remove((due, request))
                active[request.id] = request
                request.send(self.sock, True)
            while not exhausted and len(active) + len(later) < self.in_flight:
                number, item = next(items, (None, None))
                if item is None:
                    exhausted = True
                    break
                request = _Request(number, *item, self.max_tokens)
                request.params.update(self.params)
                active[request.id] = request
                request.send(self.sock, True)
            if exhausted and not active and not later:
                return
            if not self.sock.poll(50):
                now = time.monotonic()
                if now - answered > self.patience_s:
                    raise TimeoutError(f"no answer for {self.patience_s} s")
                if active and now - heard > SILENCE_S:
                    self._connect()
                    for request in active.values():
                        request.send(self.sock, False)
                    heard = now
                elif not active:
                    heard = now
                continue
            message = msgpack.unpackb(self.sock.recv())
            heard = time.monotonic()
            kind = message["type"]
            if kind == "keepalive":
                for request in active.values():
                    if request.epoch not in (None, message.get("epoch")):
                        request.epoch = None
                        request.send(self.sock, False)
                continue
            request = active.get(message.get("id"))
            if request is None:
                continue
            if kind == "accepted":
                request.epoch = message.get("epoch")
            elif kind == "tokens":
                if not request.take(message["index"], message["ids"], message["text"]):
                    request.send(self.sock, False)
            elif kind == "refused":
                if not message["retry_after_ms"]:
                    raise Refused(f"{message['code']}: {message['message']}")
                del active[request.id]
                later.append((heard + message["retry_after_ms"] / 1000, request))
            elif kind == "done":
                if message["finish_reason"] == "error":
                    raise Refused(f"{message['code']}: {message['message']}")
                del active[request.id]
                answered = heard
                yield request.number, request.ids, request.text + message["text"], \
                    message["attempts"]

    def close(self):
        if self.sock is not None:
            self.sock.close()


CONFIG = """
[model]
path = "{model}"
dtype = "{dtype}"
[worker]
count = {workers}
{worker_keys}
[broker]
runtime_dir = "{folder}/run"
[log]
file = "{folder}/facetd.log"
"""


class PrivateDaemon:
    """A facetd of our own for as long as the `with` block lasts."""

    def __init__(self, bin_dir, model, workers, dtype="fp32", worker_keys=""):
        self.program = os.path.join(bin_dir, "facetd")
        if not os.path.exists(self.program):
            raise FileNotFoundError(f"{self.program}: build Facet first, or name --bin or --socket")
        self.folder = tempfile.mkdtemp(prefix="facet-eval-")
        self.socket_path = os.path.join(self.folder, "run", "facet.sock")
        config = CONFIG.format(model=os.path.abspath(model), dtype=dtype, workers=workers,
                               folder=self.folder, worker_keys=worker_keys)
        self.config = os.path.join(self.folder, "facet.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config)
        self.process = None

    def _log(self):
        path = os.path.join(self.folder, "facetd.log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-30:])

    def __enter__(self):
        ready, inner = os.pipe()
        self.process = subprocess.Popen(
            [self.program, "--config", self.config, "--ready-fd", str(inner),
             "--exit-with-parent"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[inner])
        os.close(inner)
        told = os.read(ready, 1)  # empty when facetd ended instead
        os.close(ready)
        if not told:
            log = self._log()
            self.__exit__(None, None, None)
            raise RuntimeError(f"facetd did not start:\n{log}")
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if kind is not None:
            print(self._log())
        shutil.rmtree(self.folder, ignore_errors=True)
