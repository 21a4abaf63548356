"""`facet top` in a terminal of its own, and without one.

    operations_top.py BIN_DIR [unittest arguments]
"""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

from patience import patient
from pool_case import PoolTest, run_tests
from pool_client import Request
from pool_daemon import wait_until

ROWS, COLUMNS = 30, 140


class Top(PoolTest):
    def in_terminal(self, daemon, *arguments, rows=ROWS, columns=COLUMNS):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        process = self.facet(daemon, "top", *arguments, stdin=slave, stdout=slave, stderr=slave,
                             start_new_session=True)
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.slave = slave
        return process, master

    def read_until(self, master, wanted, timeout_s=20):
        text, deadline = "", time.monotonic() + patient(timeout_s)
        while not wanted(text):
            self.assertLess(time.monotonic(), deadline, text)
            if select.select([master], [], [], 0.2)[0]:
                text += os.read(master, 65536).decode()
        return text

    def test_a_terminal_is_redrawn_and_left_as_it_was(self):
        daemon, client = self.pool(workers=2, worker="echo.token_us = 1000")
        for end in (b"q", signal.SIGINT, signal.SIGTERM):
            with self.subTest(end=end):
                process, master = self.in_terminal(daemon, "-d", "0.1")
                client.run([Request("1", [], {"max_tokens": 50, "ignore_eos": True})])
                text = self.read_until(master, lambda t: t.count("\x1b[H") >= 4
                                       and "tokens/s" in t)
                self.assertIn("\x1b[?1049h", text)
                lines = self.lines(text)
                self.assertIn("facet top, ", lines[0])
                self.assertTrue(any("ready" in line for line in lines), lines)
                if isinstance(end, bytes):
                    os.write(master, end)
                else:
                    process.send_signal(end)
                rest = self.read_until(master, lambda t: "\x1b[?1049l" in t)
                self.assertTrue(rest.endswith("\x1b[?25h\x1b[?1049l"), rest[-40:])
                self.assertEqual(process.wait(patient(20)), 0)
                self.assertEqual(termios.tcgetattr(self.slave), self.before)

    @staticmethod
    def lines(text):
        screen = text.split("\x1b[H")[2].split("\x1b[J")[0]
        return screen.replace("\x1b[K", "").replace("\r", "").split("\n")

    def test_a_small_terminal_gets_what_fits(self):
        daemon, _ = self.pool(workers=2)
        process, master = self.in_terminal(daemon, "-d", "0.1", rows=4, columns=30)
        text = self.read_until(master, lambda t: t.count("\x1b[H") >= 4)
        lines = self.lines(text)
        self.assertEqual(len(lines), 4)
        self.assertEqual(max(map(len, lines)), 30)
        os.write(master, b"q")
        self.read_until(master, lambda t: "\x1b[?1049l" in t)
        self.assertEqual(process.wait(patient(20)), 0)

    def test_it_outlives_a_broker(self):
        daemon, _ = self.pool(workers=1)
        process, master = self.in_terminal(daemon, "-d", "0.1")
        self.read_until(master, lambda t: "ready" in t)
        broker = daemon.broker()
        os.kill(broker, signal.SIGKILL)
        wait_until(lambda: daemon.pids("facet-broker") not in ([], [broker]), 20, "a new broker")
        fresh = f"broker pid {daemon.broker()}"
        self.read_until(master, lambda t: fresh in t and "ready" in t.split(fresh, 1)[1])
        os.write(master, b"q")
        self.read_until(master, lambda t: "\x1b[?1049l" in t)
        self.assertEqual(process.wait(patient(20)), 0)

    def test_without_a_terminal_looks_are_lines(self):
        daemon, _ = self.pool(workers=1)
        code, output = self.outcome(self.facet(daemon, "top", "-d", "0.1", "-n", "3"))
        self.assertEqual(code, 0)
        self.assertEqual(output.count("facet top, "), 3)
        self.assertNotIn("\x1b", output)

    def test_no_daemon_and_wrong_use(self):
        for arguments, code in ((["--socket", "/nowhere/facet.sock"], 3), (["-d", "0"], 2),
                                (["-n", "0"], 2)):
            self.assertEqual(self.outcome(self.start_facet("top", *arguments))[0], code, arguments)


if __name__ == "__main__":
    run_tests()
