"""The test's side of tests/crash_points/crash_point.cc: catches a process at a named place."""

import mmap
import os
import re
import struct

ENTRIES = 128
ENTRY = struct.Struct("<64sIIQQII")  # name, taken, is_named, hits, armed, waiting, go


TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../crash_points/README.md")


def points_of_table():
    """The names in the rows of the list; that it is complete is a test of style."""
    with open(TABLE, encoding="utf-8") as file:
        rows = [line for line in file if line.startswith("|")]
    return list(dict.fromkeys(re.findall(r"`([a-z_]+\.[a-z_]+)`", "".join(rows))))


class CrashTable:
    """Its file's path goes to the processes in FACET_CRASH_POINTS."""

    def __init__(self, path):
        with open(path, "wb") as file:
            file.truncate(ENTRIES * ENTRY.size)
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), ENTRIES * ENTRY.size)

    def entries(self):
        """{name: (offset, hits, waiting pid)} of the points that were met so far."""
        found = {}
        for index in range(ENTRIES):
            offset = index * ENTRY.size
            name, _, is_named, hits, _, waiting, _ = ENTRY.unpack_from(self.memory, offset)
            if is_named:
                found[name.rstrip(b"\0").decode()] = (offset, hits, waiting)
        return found

    def arm(self, name, nth):
        """The nth hit from now on waits there."""
        offset, hits, _ = self.entries()[name]
        struct.pack_into("<I", self.memory, offset + 88, 0)
        struct.pack_into("<I", self.memory, offset + 92, 0)
        struct.pack_into("<Q", self.memory, offset + 80, hits + nth)

    def caught(self, name):
        """pid of the process that waits at the point; 0: none yet."""
        return self.entries()[name][2]

    def release(self, name, aborts=False):
        """Lets whoever waits go on (or fail by itself), and nobody else wait."""
        offset = self.entries()[name][0]
        struct.pack_into("<Q", self.memory, offset + 80, 0)
        struct.pack_into("<I", self.memory, offset + 92, 2 if aborts else 1)
