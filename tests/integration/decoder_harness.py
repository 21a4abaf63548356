"""Drives a real facet-decoder over its job socket, with a memfd as the ring."""

import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time

from PIL import ImageFile

from patience import patient

# Pillow sizes the buffer of a progressive JPEG by the picture's area; noise can need more.
ImageFile.MAXBLOCK = 1 << 22

JOB = struct.Struct("<QQQQQIIII")
REPLY = struct.Struct("<QII240s")
OK, BAD_IMAGE, CHILD_FAULT, CHILD_KILLED = range(4)
PAGE = 65536


def pages(size):
    return max(1, -(-size // PAGE)) * PAGE


class Decoder:
    def __init__(self, binary, ring_bytes=256 << 20, config=""):
        self.folder = tempfile.mkdtemp(prefix="facet-decoder-")
        path = os.path.join(self.folder, "facet.toml")
        with open(path, "w") as file:
            file.write('[worker]\nengine = "echo"\n' + config)
        self.ring = os.memfd_create("ring")
        os.ftruncate(self.ring, ring_bytes)
        self.ring_bytes = ring_bytes
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lifeline, lifeline_write = os.pipe()
        sources = [os.dup2(fd, 100 + i, inheritable=False)
                   for i, fd in enumerate((theirs.fileno(), self.ring, lifeline_write))]
        self.pid = os.fork()
        if self.pid == 0:
            for target, fd in enumerate(sources, 3):
                os.dup2(fd, target)
            os.closerange(6, 4096)
            os.execv(binary, [binary, "--config", path])
        for fd in sources:
            os.close(fd)
        os.close(lifeline_write)
        theirs.close()
        self.next_job = 1

    def send(self, encoded, width, height, encoded_offset, pixels_offset, encoded_bytes=None,
             pixels_bytes=None):
        os.pwrite(self.ring, encoded, encoded_offset)
        return self.send_raw(encoded_offset,
                             len(encoded) if encoded_bytes is None else encoded_bytes,
                             pixels_offset,
                             3 * width * height if pixels_bytes is None else pixels_bytes,
                             width, height)

    def send_raw(self, encoded_offset, encoded_bytes, pixels_offset, pixels_bytes, width, height):
        job = self.next_job
        self.next_job += 1
        self.socket.send(JOB.pack(job, encoded_offset, encoded_bytes, pixels_offset, pixels_bytes,
                                  width, height, 0, 0))
        return job

    def receive(self, timeout=60):
        self.socket.settimeout(patient(timeout))
        data = self.socket.recv(4096)
        if not data:
            raise EOFError("the decoder closed its socket")
        job, outcome, _, message = REPLY.unpack(data)
        return job, outcome, message.split(b"\0")[0].decode()

    def decode(self, encoded, width, height):
        """One image at a time: (outcome, message, pixels)."""
        pixels_offset = pages(len(encoded))
        job = self.send(encoded, width, height, 0, pixels_offset)
        got, outcome, message = self.receive()
        assert got == job
        return outcome, message, os.pread(self.ring, 3 * width * height, pixels_offset)

    def children(self):
        path = f"/proc/{self.pid}/task/{self.pid}/children"
        with open(path) as file:
            return [int(pid) for pid in file.read().split()]

    def is_alive(self):
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def lifeline_closed(self, timeout):
        return bool(select.select([self.lifeline], [], [], patient(timeout))[0])

    def close(self):
        """Closes the job socket; returns the server's exit status."""
        self.socket.close()
        deadline = time.monotonic() + patient(10)
        status = None
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.002)
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise AssertionError("the decoder outlived its job socket by 10 s")
        assert self.lifeline_closed(1), "a decoder child outlived the server"
        self.discard()
        return os.waitstatus_to_exitcode(status)

    def discard(self):
        """Once the server is reaped: what is left of it here."""
        self.socket.close()
        os.close(self.lifeline)
        os.close(self.ring)
        shutil.rmtree(self.folder)
