"""Peers of the client socket that speak ZMTP and msgpack as they please, beside a client at work.

    broker_hostile.py BIN_DIR [unittest arguments]
"""

import os
import random
import struct
import time

import msgpack
import zmq

from excused import excused
from patience import patient
from pool_case import PoolTest, jpeg, run_tests
from pool_client import Client, Request
from raw_peer import GREETING, RawPeer, frame

ID = b"0123456789abcdef"
ENOUGH_BYTES = 8 << 20  # of frames without an end, where memory has none either


def resident_mb(pid):
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
    except (FileNotFoundError, ProcessLookupError):
        return 0


def generate(**keys):
    message = {"v": 1, "type": "generate", "id": ID, "params": {"max_tokens": 3},
               "messages": [{"role": "user", "content": "x"}]}
    message.update(keys)
    return message


def packed(**keys):
    return msgpack.packb(generate(**keys))


def params(raw):
    """A generate whose params are these bytes."""
    whole = packed(params={})
    assert whole.count(b"\xa6params\x80") == 1
    return whole.replace(b"\xa6params\x80", b"\xa6params" + raw)


def one(name, raw):
    return params(b"\x81" + msgpack.packb(name) + raw)


REFUSED = {  # message -> what its refusal must say
    "nested": (b"\x81\xa1k" + b"\x91" * 1000 + b"\xc0", "nested deeper than 16"),
    "nested maps": (b"\x81\xa1k" * 1000 + b"\xc0", "nested deeper than 16"),
    "a long array": (b"\x81\xa1k\xdd\x00\x02\x00\x01" + b"\xc0" * 131073, "131073 exceeds 131072"),
    "a long array that is not there": (b"\x81\xa1k\xdd\xff\xff\xff\xff", "4294967295 exceeds"),
    "a long map that is not there": (b"\xdf\xff\xff\xff\xff", "a map of 4294967295 exceeds 64"),
    "text that is not there": (b"\x81\xa1k\xdb\xff\xff\xff\xff", "not a whole msgpack value"),
    "binary that is not there": (b"\x81\xa1k\xc6\xff\xff\xff\xff", "not a whole msgpack value"),
    "many values": (b"\x81\xa1k\x93" + (b"\xdd\x00\x01\xff\xff" + b"\xc0" * 131071) * 3,
                    "more than 262144 values"),
    "an extension": (packed(extra=msgpack.ExtType(5, b"abc")), "extension types"),
    "a timestamp": (packed(extra=msgpack.Timestamp(1)), "extension types"),
    "65 keys": (msgpack.packb({f"k{i}": i for i in range(65)}), "a map of 65 exceeds 64"),
    "a key twice": (packed().replace(b"\xa6params", b"\xa2id\xc0\xa6params", 1)
                    .replace(b"\x85", b"\x86", 1), '"id" is given twice'),
    "a param twice": (params(b"\x82\xa4seed\x01\xa4seed\x02"), '"seed" is given twice'),
    "a key that is a number": (params(b"\x81\x01\x01"), "keys must be strings"),
    "an unknown param": (params(b"\x81\xa4temp\x01"), 'unknown name "temp"'),
    "nan": (one("temperature", b"\xcb" + struct.pack(">d", float("nan"))), "temperature: nan"),
    "infinity": (one("top_p", b"\xca" + struct.pack(">f", float("inf"))), "top_p: inf"),
    "a large float": (one("presence_penalty", b"\xcb" + struct.pack(">d", -1e308)),
                      "presence_penalty: -1e+308"),
    "a negative integer": (one("max_tokens", b"\xff"), "max_tokens: -1 is not between"),
    "an integer of 64 bits": (one("max_tokens", b"\xcf" + b"\xff" * 8),
                              "18446744073709551615 is not between 1 and 4294967295"),
    "the lowest integer": (one("seed", b"\xd3\x80" + bytes(7)), "seed: -9223372036854775808"),
    "a float for an integer": (one("top_k", b"\xca\x00\x00\x00\x00"), "must be an integer"),
    "text that is no UTF-8": (packed(messages=[{"role": "user", "content": "X"}])
                              .replace(b"\xa1X", b"\xa1\xff"), "not valid UTF-8"),
    "a surrogate": (packed(messages=[{"role": "user", "content": "XYZ"}])
                    .replace(b"\xa3XYZ", b"\xa3\xed\xa0\x80"), "not valid UTF-8"),
    "1025 turns": (packed(messages=[{"role": "user", "content": ""}] * 1025), "1025 items exceed"),
    "a zero id": (packed(id=bytes(16)), "all zeros"),
    "bytes behind it": (packed() + b"\xc0", "1 bytes after the msgpack value"),
    "no map": (b"\x93\x01\x02\x03", "must be a map"),
    "nothing": (b"", "not a whole msgpack value"),
}


class Hostile(PoolTest):
    def refusal(self, *frames):
        with zmq.Context.instance().socket(zmq.DEALER) as peer:
            peer.linger = 0
            peer.connect("ipc://" + self.daemon.socket_path)
            peer.send_multipart(frames)
            self.assertTrue(peer.poll(20000), "no answer")
            return msgpack.unpackb(peer.recv())

    def epoch(self):
        """Which broker answers now; on a connection that no former one has seen."""
        for _ in range(20):
            client = Client(self.daemon.socket_path)
            try:
                return client.status(3)["epoch"]
            except TimeoutError:
                continue
            finally:
                client.close()
        raise AssertionError("no broker answers")

    def test_hostile_msgpack_is_refused_by_name(self):
        self.daemon, client = self.pool(workers=1)
        broker = self.daemon.broker()
        for name, (message, why) in REFUSED.items():
            with self.subTest(name):
                answer = self.refusal(message)
                self.assertEqual(answer["type"], "refused", answer)
                self.assertIn(why, answer["message"])
                self.assertIn(answer["code"], ("invalid_argument", "too_large"))
        put = {"v": 1, "type": "put", "id": ID, "image": 0, "total": 9, "offset": 0}
        chunks = [((), "chunk are missing"), ((b"",), "chunk are missing"),
                  ((b"x" * 10,), "exceed `total`"), ((b"x", b"y"), "frames"),
                  ((b"x",) * 1000, "frames")]
        for chunk, why in chunks:
            self.assertIn(why, self.refusal(msgpack.packb(put), *chunk)["message"])
        large = msgpack.packb({**put, "total": 1 << 30})
        self.assertIn("1048577", self.refusal(large, bytes((1 << 20) + 1))["message"])
        self.assertIn("second frame", self.refusal(packed(id=bytes(range(16))), b"x")["message"])
        self.assertEqual(self.daemon.broker(), broker, "the broker was replaced")
        self.assert_rests(client)

    def test_broken_zmtp_ends_that_connection_alone(self):
        self.daemon, client = self.pool(workers=1, worker="echo.token_us = 5000")
        seed = random.SystemRandom().randrange(2**32)
        print("seed", seed)
        rng = random.Random(seed)
        running = client.submit(Request("on and on", [jpeg()],
                                        {"max_tokens": 600, "ignore_eos": True}))
        client.poll_until(lambda: running.tokens, 20)
        broker = self.daemon.broker()
        too_long = b"\x02" + struct.pack(">Q", (4 << 20) + 1025)
        endless = b"\x02" + b"\xff" * 8
        for opening in (too_long, endless, b"\x06" + struct.pack(">Q", 1 << 40)):
            peer = RawPeer(self.daemon.socket_path)
            peer.send(opening + bytes(100))
            self.assertTrue(peer.is_closed(), opening)
            peer.close()
        for _ in range(100):
            peer = RawPeer(self.daemon.socket_path, is_greeting=rng.random() < 0.5)
            if rng.random() < 0.3:
                peer.send(GREETING[:rng.randrange(64)])
            peer.send(rng.randbytes(rng.randrange(200)))
            peer.close()
        client.poll_until(lambda: running.finished, 60)
        self.assert_answer(running)
        self.assertEqual(running.done["attempts"], 1)
        self.assertEqual(self.daemon.broker(), broker, "the broker was replaced")
        self.assert_rests(client)

    def test_endless_frames_cost_a_connection_or_a_broker_and_nothing_else(self):
        self.daemon, client = self.pool(
            watches=True, workers=2, worker="echo.token_us = 20000",
            broker='memory_bytes = "256MiB"')
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 400,
                                                             "ignore_eos": True}))
                    for i in range(12)]
        client.poll_until(lambda: all(r.tokens for r in requests), 30)
        epoch = self.epoch()
        program = os.path.join(self.bin_dir, "facet-broker")
        most = ENOUGH_BYTES if excused("broker_hostile.memory", program) else None
        # Frames of chunk size, that ZeroMQ's decoder copies, and that fit into its message itself.
        for size in (1 << 20, 100, 1):
            broker = self.daemon.broker()
            before = resident_mb(broker)
            peer = RawPeer(self.daemon.socket_path)
            part = frame(bytes(size), more=True) * max(1, (1 << 20) // (size + 9))
            sent, highest, deadline = 0, before, time.monotonic() + patient(60)
            while peer.send(part):
                sent += len(part)
                highest = max(highest, resident_mb(broker))
                self.assertLess(time.monotonic(), deadline, f"{sent} bytes, and no end")
                if most is not None and sent > most:
                    break
            peer.close()
            self.assertTrue(most is not None or highest - before < 256, (before, highest))
            former, epoch = epoch, self.epoch()
            print(f"frames of {size}: {sent >> 20} MiB sent, {before} to {highest} MiB resident, "
                  f"{'the same' if epoch == former else 'a new'} broker")
            # Not before the streams go on: two deaths with one record in hand would blame it.
            held = [len(r.tokens) for r in requests]
            asked = client.num_resubmits + (0 if epoch == former else 1)
            client.poll_until(
                lambda a=asked, h=held: all(r.finished for r in requests)
                or client.num_resubmits >= a and all(
                    r.finished or len(r.tokens) > n for r, n in zip(requests, h)), 60)
        client.poll_until(lambda: all(r.finished for r in requests), 80)
        for request in requests:
            self.assert_answer(request)
        self.wait_ready(client, 2)
        self.assert_rests(client)

    def test_more_connections_than_allowed(self):
        self.daemon, client = self.pool(workers=1, broker="max_clients = 4")
        broker = self.daemon.broker()
        others = [Client(self.daemon.socket_path) for _ in range(8)]
        for number, other in enumerate(others):
            other.submit(Request(f"{number}", [], {"max_tokens": 2}))
        deadline = time.monotonic() + patient(60)
        open_ones = list(others)
        while open_ones:
            self.assertLess(time.monotonic(), deadline, f"{len(open_ones)} were never served")
            for other in list(open_ones):
                other.poll(0.01)
                if all(r.finished for r in other.requests.values()):
                    open_ones.remove(other)
                    other.close()
        self.assertGreater(sum(r.num_refusals for o in others for r in o.requests.values()), 0)
        for other in others:
            for request in other.requests.values():
                self.assert_answer(request)
        self.assertEqual(self.daemon.broker(), broker)
        self.assert_rests(client)


if __name__ == "__main__":
    run_tests()
