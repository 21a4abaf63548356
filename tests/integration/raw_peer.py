"""A peer that writes ZMTP 3.0 by hand, and so can break it."""

import socket
import struct

from patience import patient

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4


def prop(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def frame(body, more=False):
    flags = (MORE if more else 0) | (LONG if len(body) > 255 else 0)
    size = struct.pack(">Q", len(body)) if len(body) > 255 else bytes([len(body)])
    return bytes([flags]) + size + body


class RawPeer:
    def __init__(self, path, is_greeting=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(patient(20))
        self.socket.connect(path)
        if is_greeting:
            ready = b"\x05READY" + prop(b"Socket-Type", b"DEALER") + prop(b"Identity", b"")
            self.socket.sendall(GREETING + bytes([COMMAND, len(ready)]) + ready)
            # What comes before the other end is ready, libzmq may take for a broken handshake.
            size = self.read(66)[-1]
            self.read(size)

    def read(self, size):
        got = b""
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise EOFError("closed during the handshake")
            got += part
        return got

    def send(self, data):
        """False: the other end has closed."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def is_closed(self):
        """Whether the other end closes within 20 s (patience.py)."""
        try:
            while self.socket.recv(4096):
                pass
            return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()
