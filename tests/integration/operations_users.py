"""Several users (uids) of one daemon: limits, turns, and what is told about the wait. Needs root.

    operations_users.py BIN_DIR [unittest arguments]
"""

import json
import os
import time
import unittest

import msgpack
import zmq

from patience import patient
from pool_case import PoolTest, jpeg, run_tests
from pool_client import Client, Request
from pool_daemon import wait_until

LONG = {"max_tokens": 100, "ignore_eos": True}


def half_id(number):
    return bytes([7, number] * 8)


def in_child(user, work):
    """Forks; the child becomes `user` and returns what work() returns, as JSON by a pipe."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            zmq.Context._instance = None  # the parent's threads are not here
            with os.fdopen(write, "w") as file:
                json.dump(work(), file)
                file.flush()
        finally:
            os._exit(0)
    os.close(write)
    return pid, read


def result(child):
    pid, read = child
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(pid, 0)
    assert text, "the child failed"
    return json.loads(text)


def outcome(request):
    if request.refused:
        return {key: request.refused[key] for key in ("code", "message", "retry_after_ms")}
    return "accepted" if request.accepted else None


def ask_all(path, count, connections=1, images=()):
    """What becomes of `count` requests, spread over some connections; nothing is asked twice."""
    clients = [Client(path) for _ in range(connections)]
    asked = []
    for i in range(count):
        client = clients[i % connections]
        asked.append((client, client.submit(Request(f"{i}", list(images), dict(LONG)))))
        # One after the other, so that it is known which ones are too many.
        deadline = time.monotonic() + patient(20)
        while outcome(asked[-1][1]) is None and time.monotonic() < deadline:
            client.poll(0.05)
        asked[-1][1].retry_at = None
    for client in clients:
        client.close()
    return [outcome(request) for _, request in asked]


@unittest.skipUnless(os.geteuid() == 0, "becoming another user takes root")
class Users(PoolTest):
    def open_pool(self, **options):
        daemon, client = self.pool(**options)
        for path, mode in ((daemon.folder, 0o755), (f"{daemon.folder}/run", 0o755),
                           (daemon.socket_path, 0o666)):
            os.chmod(path, mode)
        return daemon, client

    def test_queue_of_one_user_over_all_its_connections(self):
        daemon, _ = self.open_pool(workers=1, worker="credits = 1\necho.token_us = 20000",
                                   broker="max_queued_per_user = 4")
        got = result(in_child(2001, lambda: ask_all(daemon.socket_path, 8, connections=3)))
        self.assertEqual(got[:5], ["accepted"] * 5)  # one of them runs
        for refused in got[5:]:
            self.assertEqual(refused["code"], "exhausted")
            self.assertGreater(refused["retry_after_ms"], 0)
            self.assertEqual(refused["message"], "user 2001 has 4 requests waiting; the limit of "
                                                 "one user is 4")
        got = result(in_child(2002, lambda: ask_all(daemon.socket_path, 2)))
        self.assertEqual(got, ["accepted"] * 2)

    def test_a_full_queue_is_shared(self):
        daemon, client = self.open_pool(workers=1, worker="credits = 1\necho.token_us = 20000",
                                        broker="max_queued_requests = 6")
        got = result(in_child(2001, lambda: ask_all(daemon.socket_path, 9)))
        self.assertEqual(got[:7], ["accepted"] * 7)
        self.assertIn("6 requests are waiting, 6 of them of user 2001", got[8]["message"])
        got = result(in_child(2002, lambda: ask_all(daemon.socket_path, 4)))
        self.assertEqual(got[:3], ["accepted"] * 3)
        self.assertIn("3 of them of user 2002", got[3]["message"])
        users = {u["user"]: u for u in client.status()["users"]}
        self.assertEqual(users[2002]["queued"], 3)

    def test_images_of_one_user(self):
        daemon, _ = self.open_pool(workers=1, worker="credits = 1\necho.token_us = 20000",
                                   broker='max_ingest_bytes_per_user = "20KiB"')
        image = jpeg()
        fit = 20480 // len(image)

        def images():
            return ask_all(daemon.socket_path, fit + 2, 2, [image])
        got = result(in_child(2001, images))
        self.assertEqual(got[:fit], ["accepted"] * fit)
        self.assertIn("it passes the limit of one user, 20480", got[-1]["message"])
        self.assertEqual(result(in_child(2002, images))[0], "accepted")

    def test_images_that_are_never_whole(self):
        """One who begins images, of few bytes each, and never ends them: the ring and the table of
        uploads have room for others all the while."""
        daemon, client = self.open_pool(
            workers=1, ring='ingest_bytes = "8MiB"\npixel_bytes = "16MiB"',  # 128 pages
            ledger='bytes = "8MiB"\nmax_records = 64')

        def begin():
            socket = zmq.Context.instance().socket(zmq.DEALER)
            socket.linger = 0
            socket.connect("ipc://" + daemon.socket_path)
            for number in range(60):
                for image in range(16 if number < 8 else 1):
                    put = {"v": 1, "type": "put", "id": half_id(number), "image": image,
                           "total": 2, "offset": 0}
                    socket.send_multipart([msgpack.packb(put), b"x"])
            said = []
            while not said or "begun to send" not in said[-1]["message"]:
                assert socket.poll(round(1000 * patient(20))), said
                message = msgpack.unpackb(socket.recv())
                assert message["type"] == "refused", message
                said.append({key: message[key] for key in ("code", "message", "retry_after_ms")})
            socket.close()
            return said
        said = result(in_child(2001, begin))
        for refused in said:
            self.assertEqual(refused["code"], "exhausted")
            self.assertGreater(refused["retry_after_ms"], 0)
        self.assertEqual(said[0]["message"], "user 2001 has 96 pages of 65536 bytes of the ring; "
                                             "with 1 more it passes the limit of one user, 96")
        self.assertEqual(said[-1]["message"],
                         "user 2001 has begun to send the images of 48 requests and not asked for "
                         "their answers; the limit of one user is 48")
        mine = [Request(f"{i}", [jpeg(), jpeg()], {"max_tokens": 5}) for i in range(12)]
        client.run(mine, in_flight=4)
        for request in mine:
            self.assert_answer(request)
            self.assertEqual(request.num_refusals, 0)

        def cancel():
            socket = zmq.Context.instance().socket(zmq.DEALER)
            socket.connect("ipc://" + daemon.socket_path)
            for number in range(60):
                socket.send(msgpack.packb({"v": 1, "type": "cancel", "id": half_id(number)}))
            socket.close()
            zmq.Context.instance().term()  # all is sent
            return True
        result(in_child(2001, cancel))
        self.assert_rests(client)

    def test_connections_of_one_user(self):
        daemon, client = self.open_pool(workers=1, broker="max_clients_per_user = 3")

        def connect():
            sockets, kinds = [], []
            for _ in range(5):
                socket = zmq.Context.instance().socket(zmq.DEALER)
                socket.linger = 0
                socket.connect("ipc://" + daemon.socket_path)
                socket.send(msgpack.packb({"v": 1, "type": "status"}))
                assert socket.poll(20000)
                message = msgpack.unpackb(socket.recv())
                kinds.append(message.get("message", message["type"]))
                sockets.append(socket)
            for socket in sockets:
                socket.close()
            return kinds
        refused = "user 2001 has 3 clients; the limit of one user is 3"
        self.assertEqual(result(in_child(2001, connect)), ["status"] * 3 + [refused] * 2)
        self.assertEqual(result(in_child(2002, connect))[:3], ["status"] * 3)
        client.status()

    def test_a_flood_of_one_user_does_not_hold_up_another(self):
        daemon, client = self.open_pool(workers=2, worker="credits = 2\necho.token_us = 2000")

        def flood():
            other = Client(daemon.socket_path)
            requests = [other.submit(Request(f"{i}", [], dict(LONG), priority="interactive"))
                        for i in range(140)]
            other.poll_until(lambda: all(r.finished for r in requests), 100)
            other.close()
            return sum(r.done is not None for r in requests)
        child = in_child(2001, flood)
        wait_until(lambda: client.status()["requests"]["queued_interactive"] > 100, 30, "the flood")

        def done():
            return sum(client.status()["counters"]["done"].values())
        before = done()
        mine = client.submit(Request("mine", [], dict(LONG), priority="interactive"))
        client.poll_until(lambda: mine.finished, 60)
        self.assert_answer(mine)
        # Four are at the workers, four more may be ahead of it in its turn, and while it runs
        # others end beside it.
        self.assertLess(done() - before, 40)
        batch = client.submit(Request("batch", [], dict(LONG), priority="batch"))
        client.poll_until(lambda: batch.finished, 60)
        self.assertGreater(client.status()["requests"]["queued_interactive"], 0)
        self.assertEqual(result(child), 140)
        self.assert_rests(client)

    def test_the_wait_is_told(self):
        daemon, client = self.open_pool(workers=1, worker="credits = 2\necho.token_us = 3000")
        warm = [client.submit(Request(f"{i}", [], dict(LONG))) for i in range(2)]
        client.poll_until(lambda: all(r.finished for r in warm), 30)
        told = []
        keep = Client.on_accepted

        def note(self_, request, message):
            told.append((message["position"], message.get("eta_ms"), time.monotonic(), request))
            keep(self_, request, message)
        client.on_accepted = note.__get__(client)
        many = [client.submit(Request(f"{i}", [], dict(LONG))) for i in range(30)]
        first = {}

        def watch():
            for request in many:
                if request.tokens and request.id not in first:
                    first[request.id] = time.monotonic()
            return all(r.finished for r in many)
        client.poll_until(watch, 100)
        self.assertEqual(len(told), 30)
        position, eta, accepted, request = told[-1]
        self.assertGreater(position, 20)
        real = 1000 * (first[request.id] - accepted)
        print(f"  {position} ahead: {eta} ms estimated, {real:.0f} ms in truth")
        self.assertGreater(eta, real / 5)
        self.assertLess(eta, real * 5)
        self.assertEqual(told[0][1], 0)


if __name__ == "__main__":
    run_tests()
