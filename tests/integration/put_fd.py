"""Images as descriptors (common/protocol/README.md): a client as that page has it, hostile ones,
and the death of the broker while images come.

    put_fd.py BIN_DIR [unittest arguments]
"""

import fcntl
import os
import random
import re
import resource
import signal
import socket
import threading
import time

import msgpack

from pool_case import Hostile, PoolTest, jpeg, run_tests
from pool_client import Client, Request, generate_message
from pool_daemon import count_fds, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def page_example():
    """The Python lines of the page's section."""
    with open(os.path.join(ROOT, "common/protocol/README.md"), encoding="utf-8") as file:
        found = re.search(r"^## Images as a descriptor$.*?^```python\n(.*?)^```$", file.read(),
                          re.DOTALL | re.MULTILINE)
    return found.group(1)


def memfd(data, seals=fcntl.F_SEAL_SHRINK):
    fd = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class Link:
    """One connection of the socket for descriptors."""

    def __init__(self, socket_path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.socket.connect(socket_path + ".fd")

    def send(self, fds, **keys):
        put = {"v": 1, "type": "put_fd", "image": 0, **keys}
        socket.send_fds(self.socket, [msgpack.packb(put)], fds)

    def answer(self):
        return msgpack.unpackb(self.socket.recv(2048))

    def put(self, request_id, data, image=0):
        fd = memfd(data)
        self.send([fd], id=request_id, image=image, total=len(data))
        os.close(fd)
        return self.answer()

    def close(self):
        self.socket.close()


class PutFd(PoolTest):
    def link(self, daemon):
        link = Link(daemon.socket_path)
        self.addCleanup(link.close)
        return link

    def ask_by_descriptor(self, client, link, request):
        for index, image in enumerate(request.images):
            answer = link.put(request.id, image, index)
            self.assertEqual(answer, {"v": 1, "type": "stored", "id": request.id, "image": index})
        client.attach(request, 0)
        client.poll_until(lambda: request.finished, 60)
        self.assert_answer(request)

    def test_a_client_as_the_page_has_it(self):
        daemon, client = self.pool(workers=1)
        self.assertEqual(client.status()["fd_socket"], daemon.socket_path + ".fd")
        image = jpeg(900, 700)
        with open(os.path.join(daemon.folder, "photo.jpg"), "wb") as file:
            file.write(image)
        request = Request("as the page has it", [image], {"max_tokens": 5})
        names = {"socket": socket, "os": os, "fcntl": fcntl, "msgpack": msgpack,
                 "socket_path": daemon.socket_path, "rid": request.id}
        code = page_example().replace('"photo.jpg"', f'"{daemon.folder}/photo.jpg"')
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102
        self.addCleanup(names["link"].close)
        self.assertEqual(names["answer"]["type"], "stored", names["answer"])
        client.attach(request, 0)
        client.poll_until(lambda: request.finished, 30)
        self.assert_answer(request)
        self.assert_rests(client)

    def test_large_ones_and_both_ways_in_one_request(self):
        daemon, client = self.pool(workers=2, ring='ingest_bytes = "128MiB"\n'
                                   'pixel_bytes = "256MiB"')
        link = self.link(daemon)
        large = jpeg(2600, 2200)
        self.assertGreater(len(large), 4 << 20)
        request = Request("large", [large, jpeg(), large], {"max_tokens": 4})
        self.ask_by_descriptor(client, link, request)
        mixed = Request("mixed", [jpeg(800, 600), jpeg(700, 500)], {"max_tokens": 4})
        self.assertEqual(link.put(mixed.id, mixed.images[1], 1)["type"], "stored")
        client.send({"v": 1, "type": "put", "id": mixed.id, "image": 0,
                     "total": len(mixed.images[0]), "offset": 0}, mixed.images[0])
        client.attach(mixed, 0)
        client.poll_until(lambda: mixed.finished, 30)
        self.assert_answer(mixed)
        # Accepted already: answered as stored, and nothing is kept.
        self.assertEqual(link.put(mixed.id, mixed.images[1], 1)["type"], "stored")
        self.assert_rests(client)

    def test_a_request_goes_ahead_of_its_image_that_is_taken(self):
        daemon, client = self.pool(workers=2, ring='ingest_bytes = "128MiB"\n'
                                   'pixel_bytes = "256MiB"')
        link, large = self.link(daemon), jpeg(2600, 2200)
        self.assertGreater(len(large), 2 << 20)
        fd = memfd(large)
        for number in range(8):
            request = Request(f"{number}", [large], {"max_tokens": 4})
            link.send([fd], id=request.id, total=len(large), taken=True)
            self.assertEqual(link.answer(),
                             {"v": 1, "type": "taken", "id": request.id, "image": 0})
            client.attach(request, 0)
            self.assertEqual(link.answer()["type"], "stored")
            client.poll_until(lambda r=request: r.finished, 60)
            self.assert_answer(request)
            # Who leaves between the two may be refused; whoever sends everything again is served.
            left = Request(f"left {number}", [large], {"max_tokens": 4})
            gone = Link(daemon.socket_path)
            gone.send([fd], id=left.id, total=len(large), taken=True)
            self.assertEqual(gone.answer()["type"], "taken")
            gone.close()
            client.attach(left, 0)
            client.poll_until(lambda r=left: r.finished, 60)
            if left.refused:
                left.refused = None
                self.ask_by_descriptor(client, link, left)
            self.assert_answer(left)
        os.close(fd)
        self.assert_rests(client)

    def test_hostile_descriptors_are_refused_by_name_and_closed(self):
        daemon, client = self.pool(workers=1)
        broker, link = daemon.broker(), self.link(daemon)
        request = Request("before", [jpeg(600, 400)], {"max_tokens": 3})
        self.ask_by_descriptor(client, link, request)
        fds = count_fds(broker)
        image = jpeg(300, 200)
        good, size = memfd(image), len(image)
        pipe = os.pipe()
        plain = os.open(os.path.join(daemon.folder, "facet.toml"), os.O_RDONLY)
        writer = os.open(f"/proc/self/fd/{good}", os.O_WRONLY)
        unsealed, grown, empty = memfd(image, 0), memfd(image, fcntl.F_SEAL_GROW), memfd(b"")
        text = memfd(b"no image at all")
        cases = [
            ([plain], size, "not a memfd"), ([pipe[0]], size, "not a memfd"),
            ([link.socket.fileno()], size, "not a memfd"), ([unsealed], size, "F_SEAL_SHRINK"),
            ([grown], size, "F_SEAL_SHRINK"), ([empty], size, f"0 bytes; `total` is {size}"),
            ([good], size + 1, f"has {size} bytes; `total` is {size + 1}"), ([good], 0, "total"),
            ([good], 1 << 31, "total"), ([writer], size, "not open for reading"),
            ([], size, "0 descriptors"), ([good, good], size, "2 descriptors"),
            ([good] * 200, size, "or more descriptors"), ([text], 15, "image 0"),
            ([text], 9, "image 0")]
        for descriptors, total, why in cases:
            with self.subTest(why):
                link.send(descriptors, id=os.urandom(16), total=total)
                answer = link.answer()
                self.assertEqual(answer["type"], "refused", answer)
                self.assertIn(why, answer["message"])
                self.assertEqual(answer["retry_after_ms"], 0)
        large = os.memfd_create("holes", os.MFD_ALLOW_SEALING)
        os.ftruncate(large, 1 << 30)
        fcntl.fcntl(large, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        link.send([large], id=os.urandom(16), total=1 << 30)
        self.assertIn("the limit is", link.answer()["message"])
        for raw in (b"\xc1", b"x" * 3000, msgpack.packb({"v": 1, "type": "status"}),
                    msgpack.packb({"v": 2, "type": "put_fd"})):
            socket.send_fds(link.socket, [raw], [good])
            self.assertEqual(link.answer()["type"], "refused")
        # What is refused has an end: the generate gets the same, and the next try is a new one.
        again = Request("again", [image], {"max_tokens": 3})
        link.send([unsealed], id=again.id, total=size)
        why = link.answer()["message"]
        client.attach(again, 0)
        client.poll_until(lambda: again.finished, 20)
        self.assertEqual(again.refused["message"], why)
        again.refused = None
        self.ask_by_descriptor(client, link, again)
        for fd in (good, *pipe, plain, writer, unsealed, grown, empty, text, large):
            os.close(fd)
        self.assertEqual(daemon.broker(), broker, "the broker was replaced")
        wait_until(lambda: count_fds(broker) == fds, 10, "the broker's descriptors are closed")
        self.assert_rests(client)

    def test_floods_and_deaf_peers_end_alone(self):
        daemon, client = self.pool(workers=1)
        broker, good = daemon.broker(), self.link(daemon)
        served = Request("first", [jpeg(600, 400)], {"max_tokens": 3})
        self.ask_by_descriptor(client, good, served)
        fds, most, is_over = count_fds(broker), [0], threading.Event()
        ids = [os.urandom(16) for _ in range(3)]
        image = memfd(os.urandom(3 << 19))  # no image: refused once it is copied, nothing is kept
        total = os.fstat(image).st_size

        def flood(number):
            while not is_over.is_set():
                link = Link(daemon.socket_path)
                try:
                    link.socket.settimeout(0.5)
                    while not is_over.is_set():  # reads nothing
                        link.send([image], id=ids[number], image=0, total=total)
                except OSError:  # cut off, full, or too many under way
                    pass
                link.close()
        floods = [threading.Thread(target=flood, args=(i,)) for i in range(3)]
        for thread in floods:
            thread.start()
        try:
            for number in range(5):
                request = Request(f"{number}", [jpeg(600, 400)], {"max_tokens": 3})
                client.submit(request)
                client.poll_until(lambda r=request: r.done is not None, 60)
                self.assert_answer(request)
                most[0] = max(most[0], count_fds(broker))
        finally:
            is_over.set()
            for thread in floods:
                thread.join()
        os.close(image)
        self.assertEqual(daemon.broker(), broker, "the broker was replaced")
        # Connections come and go; of images one is open, or the few of one datagram.
        self.assertLess(most[0], fds + 64 + 8)
        good.close()
        wait_until(lambda: client.status()["clients"]["fd_connections"] == 0, 20, "all have left")
        other = Hostile(daemon.socket_path)  # half an image would stay for 30 s
        for number in ids:
            other.send([msgpack.packb({"v": 1, "type": "cancel", "id": number})])
        self.assert_rests(client)
        other.close()
        wait_until(lambda: count_fds(broker) == fds - 1, 10, "the broker's descriptors are closed")

    def test_connections_are_bounded_and_chunks_go_on(self):
        daemon, client = self.pool(workers=1)
        links = [self.link(daemon) for _ in range(80)]
        refused = 0
        for link in links[48:]:
            try:
                refused += link.answer()["code"] == "exhausted"
            except OSError:
                refused += 1
        self.assertEqual(refused, 32)  # a user has three quarters of 64
        request = Request("chunks", [jpeg(600, 400)], {"max_tokens": 3})
        client.run([request])
        self.assert_answer(request)
        self.assertEqual(links[0].put(os.urandom(16), jpeg())["type"], "stored")
        for link in links:
            link.close()
        wait_until(lambda: client.status()["clients"]["fd_connections"] == 0, 20, "all have left")

    def test_the_broker_dies_while_images_come(self):
        seed = int(os.environ.get("FACET_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
        print("seed", seed)
        rng = random.Random(seed)
        daemon, client = self.pool(workers=2, watches=True, worker="echo.token_us = 3000")
        images = [jpeg(rng.randint(300, 1800), rng.randint(300, 1400)) for _ in range(4)]
        deaths, requests = 0, []
        while deaths < 6:
            request = Request(f"{len(requests)}", rng.choices(images, k=2),
                              {"max_tokens": rng.randint(3, 40)})
            requests.append(request)
            link = Link(daemon.socket_path)
            pause = rng.choice((0, 0, 0.0005, 0.002))
            broker = daemon.broker()
            killer = threading.Timer(pause, os.kill, (broker, signal.SIGKILL))
            killer.start()
            deaths += 1
            index = 0
            while index < 2:  # until each is stored: what is sent again takes its former place
                try:
                    answer = link.put(request.id, request.images[index], index)
                    self.assertEqual(answer["type"], "stored", answer)
                    index += 1
                except OSError:
                    link.close()
                    link = Link(daemon.socket_path)
                except (EOFError, ValueError):  # an end looks like an empty datagram
                    link.close()
                    link = Link(daemon.socket_path)
            killer.join()
            link.close()
            client.attach(request, 0)  # refused as closed where its images died: sends them again
            client.poll_until(lambda r=request: r.done is not None, 60)
            self.assert_answer(request)
            self.wait_ready(client, 2)
        for request in requests:
            self.assert_answer(request)
        self.assert_rests(client)

    def test_the_client_library_goes_by_descriptors_and_comes_back_to_them(self):
        daemon, client = self.pool(workers=2, worker="echo.token_us = 1000")
        folder = os.path.join(daemon.folder, "images")
        os.mkdir(folder)
        sizes = [(1200, 1050), (60, 40), (1250, 1050), (1200, 1100)] * 3
        for number, (width, height) in enumerate(sizes):
            with open(os.path.join(folder, f"{number}.jpg"), "wb") as file:
                file.write(jpeg(width, height))
        out = os.path.join(daemon.folder, "out.jsonl")
        batch = self.facet(daemon, "batch", folder, "-p", "what?", "-o", out, "--max-tokens", "20")
        code, said = self.outcome(batch)
        self.assertEqual(code, 0, said)
        self.assertIn("12 answered, 0 failed", said)
        counters = client.status()["counters"]
        self.assertEqual(counters["fd_images_stored"], 9 - 4)  # the first ones go as chunks
        self.assertEqual(counters["fd_malformed"], 0)
        for number in range(12, 32):
            with open(os.path.join(folder, f"{number}.jpg"), "wb") as file:
                file.write(jpeg(1200, 1050 + number))
        batch = self.facet(daemon, "batch", folder, "-p", "what?", "-o", out, "--max-tokens", "20")
        for _ in range(2):
            time.sleep(0.2)
            os.kill(daemon.broker(), signal.SIGKILL)
        code, said = self.outcome(batch)
        self.assertEqual(code, 0, said)
        self.assertIn("20 answered, 0 failed", said)
        again = Client(daemon.socket_path)
        self.addCleanup(again.close)
        self.wait_ready(again, 2)
        self.assert_rests(again, 60)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    run_tests()
