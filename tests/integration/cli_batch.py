#!/usr/bin/env python3
"""`facet batch` against real processes: resumed, killed, interrupted, locked, failing.

Usage: cli_batch.py BIN_DIR [SEED]
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time

from cli_harness import Facet, answers_of, expect, expect_exit, rows_of, run_cases
from patience import patient
from pool_daemon import Daemon, wait_until
from pool_images import mixed_images, write_folder

BIN = sys.argv[1]
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
RNG = random.Random(SEED)
WORK = tempfile.TemporaryDirectory(prefix="facet-batch-")
FACET = Facet(BIN, WORK.name)
COUNT = 80
FOLDER = os.path.join(WORK.name, "images")
os.mkdir(FOLDER)
PATHS = write_folder(FOLDER, mixed_images(9, COUNT, max_side=150))
shutil.copy(PATHS[3], os.path.join(FOLDER, "copy_of_3.png"))  # the same content under two names
ASK = ("-p", 'say "what", please', "--max-tokens", "10")
TOKENS = "[worker.echo]\ntoken_us = 3000"


def out(name):
    return os.path.join(WORK.name, name)


def command(daemon, output, *more):
    return ("batch", FOLDER, *ASK, "-o", output, "--socket", daemon.socket_path, *more)


def lines_in(path):
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as file:
        return file.read().count(b"\n")


def undisturbed(daemon):
    path = out("undisturbed.jsonl")
    if not os.path.exists(path):
        done = FACET.run(*command(daemon, path))
        expect_exit(done, 0)
        expect(f"{COUNT + 1} answered, 0 failed" in done.err, done.err)
    return answers_of(path)


def answers_every_image():
    with Daemon(BIN, workers=2, worker=TOKENS) as daemon:
        wanted = undisturbed(daemon)
        expect(len(wanted) == COUNT + 1, len(wanted))
        rows = rows_of(out("undisturbed.jsonl"))
        expect(sorted(row["index"] for row in rows) == list(range(COUNT + 1)), "indices")
        by_image = {row["image"]: row for row in rows}
        first, second = by_image[PATHS[3]], by_image[os.path.join(FOLDER, "copy_of_3.png")]
        expect(first["key"] == second["key"] and first["text"] == second["text"], first, second)
        # Again: nothing is asked. Other settings: everything is.
        again = FACET.run(*command(daemon, out("undisturbed.jsonl")))
        expect_exit(again, 0)
        expect("0 answered" in again.err and f"{COUNT + 1} done earlier" in again.err, again.err)
        one = FACET.run("run", PATHS[5], *ASK, "--socket", daemon.socket_path)
        expect(one.out == by_image[PATHS[5]]["text"] + "\n", "run and batch must agree", one.out)
        other = FACET.run(*command(daemon, out("undisturbed.jsonl"), "--seed", "1"))
        expect(f"{COUNT + 1} answered" in other.err, other.err)
        shutil.copy(out("undisturbed.jsonl"), out("seeds.jsonl"))
        os.remove(out("undisturbed.jsonl"))


def survives_kills_of_itself_and_of_workers():
    with Daemon(BIN, workers=3, worker=TOKENS) as daemon:
        wanted = undisturbed(daemon)
        path = out("killed.jsonl")
        for kills in range(200):
            batch = FACET.start(*command(daemon, path))
            goal = lines_in(path) + RNG.randint(1, 12)
            while batch.poll() is None and lines_in(path) < goal:
                time.sleep(0.001)
            if RNG.random() < 0.5 and daemon.workers():
                os.kill(RNG.choice(daemon.workers()), signal.SIGKILL)
            if batch.poll() is not None:
                break
            batch.kill()
            batch.communicate()
            if RNG.random() < 0.3:  # a torn line, as after a power failure
                with open(path, "rb+") as file:
                    file.seek(-RNG.randint(1, 60), os.SEEK_END)
                    file.truncate()
        _, err = batch.communicate()
        expect(batch.returncode == 0, err.decode())
        expect(answers_of(path) == wanted, "answers differ from those of an undisturbed run")
        print(f"{kills} kills", end=" ")


def ctrl_c_finishes_what_is_under_way():
    with Daemon(BIN, workers=1, worker="[worker.echo]\ntoken_us = 20000") as daemon:
        path = out("interrupted.jsonl")
        batch = FACET.start(*command(daemon, path, "--in-flight", "8"))
        wait_until(lambda: lines_in(path) >= 8, 30, "answers")
        batch.send_signal(signal.SIGINT)
        _, err = batch.communicate(timeout=patient(30))
        expect(batch.returncode == 130, batch.returncode, err.decode())
        expect("finishing" in err.decode() and "interrupted" in err.decode(), err.decode())
        some = lines_in(path)
        expect(8 <= some <= 32, some)
        batch = FACET.start(*command(daemon, path, "--in-flight", "8"))
        wait_until(lambda: lines_in(path) >= some + 8, 30, "answers")
        batch.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two signals at once are one
        batch.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, err = batch.communicate(timeout=patient(30))
        expect(batch.returncode == 130, batch.returncode, err.decode())
        expect(time.monotonic() - start < 5, "the second Ctrl-C leaves at once")
        answers_of(path)
        idle = lambda: json.loads(FACET.run("status", "--json", "--socket", daemon.socket_path)
                                  .out)["requests"]["running"] == 0
        wait_until(idle, 10, "what was left is cancelled")
    with Daemon(BIN, workers=3, worker=TOKENS) as daemon:
        expect_exit(FACET.run(*command(daemon, path)), 0)
        expect(answers_of(path) == undisturbed(daemon), "answers differ")


def a_second_batch_is_refused():
    with Daemon(BIN, workers=1, worker="[worker.echo]\ntoken_us = 20000") as daemon:
        path = out("locked.jsonl")
        first = FACET.start(*command(daemon, path))
        wait_until(lambda: os.path.exists(path), 10, "output")
        time.sleep(0.05)
        second = FACET.run(*command(daemon, path))
        expect_exit(second, 2)
        expect("another batch is writing to it" in second.err, second.err)
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=patient(30))
        expect(first.returncode == 130, first.returncode)
        precious = out("precious.txt")
        with open(precious, "w", encoding="utf-8") as file:
            file.write("do not touch")
        refused = FACET.run(*command(daemon, precious))
        expect_exit(refused, 2)
        with open(precious, encoding="utf-8") as file:
            expect(file.read() == "do not touch", "a stranger's file was changed")


def failures_are_listed_and_retried():
    folder = out("mixed")
    os.makedirs(os.path.join(folder, "sub"))
    for path in PATHS[:5]:
        shutil.copy(path, folder)
    for name, content in [("broken.png", b"\x89PNG\r\n\x1a\nnonsense"), ("empty.jpg", b""),
                          ("notes.txt", b"x"), ("sub/deep.png", open(PATHS[6], "rb").read())]:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    os.symlink(PATHS[7], os.path.join(folder, "link.png"))
    path = out("failures.jsonl")
    with Daemon(BIN, workers=2) as daemon:
        ask = ("batch", folder, "-p", "x", "--max-tokens", "4", "-o", path, "--socket",
               daemon.socket_path)
        done = FACET.run(*ask)
        expect_exit(done, 1)
        for part in ("broken.png", "empty.jpg", "is empty", "1 files are not", "1 symbolic links",
                     "5 answered, 2 failed"):
            expect(part in done.err, part, done.err)
        rows = {os.path.basename(row["image"]): row for row in rows_of(path)}
        expect(len(rows) == 7 and "error" in rows["broken.png"], rows)
        expect(rows["empty.jpg"]["code"] == "invalid_argument", rows["empty.jpg"])
        again = FACET.run(*ask)
        expect_exit(again, 1)
        expect("0 answered, 2 failed, 5 done earlier" in again.err, again.err)
        shutil.copy(PATHS[8], os.path.join(folder, "broken.png"))
        shutil.copy(PATHS[9], os.path.join(folder, "empty.jpg"))
        retried = FACET.run(*ask, "--retry-failed", "--recursive")
        expect_exit(retried, 0)
        expect("2 failures are asked again" in retried.err, retried.err)
        expect("3 answered, 0 failed, 5 done earlier" in retried.err, retried.err)
        rows = rows_of(path)
        expect(len(rows) == 8 and not any("error" in row for row in rows), rows)


def a_mended_file_loses_its_failure():
    folder = out("mended")
    os.mkdir(folder)
    shutil.copy(PATHS[0], folder)
    mended = os.path.join(folder, "e1.png")
    open(mended, "wb").close()
    with Daemon(BIN, workers=1) as daemon:
        for name in ("mended.jsonl", "mended.csv"):
            ask = ("batch", folder, "-p", "x", "--max-tokens", "4", "-o", out(name), "--socket",
                   daemon.socket_path)
            expect_exit(FACET.run(*ask), 1)
            expect_exit(FACET.run(*ask), 1)  # still empty
            shutil.copy(PATHS[1], mended)
            again = FACET.run(*ask)
            expect_exit(again, 0)
            expect("1 answered, 0 failed, 1 done earlier" in again.err, again.err)
            expect("unreadable" not in open(out(name), encoding="utf-8").read(), name)
            expect(lines_in(out(name)) == (3 if name.endswith("csv") else 2), name)
            open(mended, "wb").close()


def wrong_use_writes_nothing():
    path = out("wrong.jsonl")
    for words, part in ((("--top-p", "2"), "top_p: 2 is not between"),
                        (("--temperature", "nan"), "temperature"),
                        (("--deadline", "nan"), "--deadline")):
        done = FACET.run("batch", FOLDER, *ASK, *words, "-o", path, "--socket", "/no/such/socket")
        expect_exit(done, 2)
        expect(part in done.err, done.err)
        expect(not os.path.exists(path), "nothing is written")


def a_full_disk_stops_it_and_counts_what_is_there():
    path = out("full.jsonl")
    with Daemon(BIN, workers=2) as daemon:
        wanted = undisturbed(daemon)
        limit = sum(len(json.dumps(row)) for row in rows_of(out("undisturbed.jsonl"))) // 2
        full = FACET.run(*command(daemon, path), max_file_bytes=limit)
        expect_exit(full, 1)
        have = len(rows_of(path))
        expect(0 < have < COUNT, have)
        expect(f" {have} answered, 0 failed" in full.err, have, full.err)
        expect("stopped: " in full.err and path + ": " in full.err, full.err)
        expect_exit(FACET.run(*command(daemon, path)), 0)
        expect(answers_of(path) == wanted, "answers differ")


def csv_holds_the_same():
    with Daemon(BIN, workers=3, worker=TOKENS) as daemon:
        wanted = undisturbed(daemon)
        path = out("answers.csv")
        batch = FACET.start(*command(daemon, path))
        wait_until(lambda: lines_in(path) > 10, 30, "answers")
        batch.kill()
        batch.communicate()
        with open(path, "ab") as file:
            file.write(b'7,"torn ""row')
        expect_exit(FACET.run(*command(daemon, path)), 0)
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        got = {json.dumps([row["image"], row["question"]]): row for row in rows}
        expect(len(got) == len(rows) == len(wanted), len(got), len(rows), len(wanted))
        for name, row in got.items():
            expect(row["text"] == wanted[name][1], row, wanted[name])
            expect(int(row["completion_tokens"]) == len(wanted[name][2]), row)


def questions_of_a_file():
    path = out("questions.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        for i in range(12):
            image = [f"images/{os.path.basename(PATHS[j])}" for j in (i, i + 1)]
            file.write(json.dumps({"image": image if i % 2 else image[0],
                                   "question": f"question {i}?"}) + "\n")
    with Daemon(BIN, workers=2) as daemon:
        ask = ("batch", "--questions", path, "-o", out("answered.jsonl"), "--max-tokens", "5",
               "--socket", daemon.socket_path)
        expect_exit(FACET.run(*ask), 0)
        rows = sorted(rows_of(out("answered.jsonl")), key=lambda row: row["index"])
        expect([row["question"] for row in rows] == [f"question {i}?" for i in range(12)], rows)
        expect(isinstance(rows[1]["image"], list) and isinstance(rows[0]["image"], str), rows[:2])
        expect("0 answered" in FACET.run(*ask).err, "nothing is left to ask")
        wrong = FACET.run(*ask, "-p", "x")
        expect_exit(wrong, 2)


def a_daemon_that_goes_stops_the_batch():
    path = out("gone.jsonl")
    with Daemon(BIN, workers=2, worker=TOKENS) as daemon:
        wanted = undisturbed(daemon)
        batch = FACET.start(*command(daemon, path, "--in-flight", "4"))
        wait_until(lambda: lines_in(path) >= 4, 30, "answers")
        daemon.stop()
        _, err = batch.communicate(timeout=patient(60))
        expect(batch.returncode == 3, batch.returncode, err.decode())
        expect("goes on where it ended" in err.decode(), err.decode())
        expect(not any("error" in row for row in rows_of(path)), "no image is to blame")
    with Daemon(BIN, workers=2, worker=TOKENS) as daemon:
        expect_exit(FACET.run(*command(daemon, path)), 0)
        expect(answers_of(path) == wanted, "answers differ")


def a_private_daemon_serves_a_batch():
    config = out("echo.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write('[worker]\nengine = "echo"\ncount = 2\n[ring]\npixel_bytes = "64MiB"\n'
                   f'[broker]\nruntime_dir = "{WORK.name}/nobody"\n')
    done = FACET.run("batch", os.path.join(FOLDER, "000*"), *ASK, "-o", out("private.jsonl"),
                     "--config", config)
    expect_exit(done, 0)
    expect("10 answered" in done.err, done.err)
    left = [name for name in os.listdir(WORK.name) if name.startswith("facet-private")]
    expect(left == [], left)


print(f"seed {SEED}")
run_cases([answers_every_image, survives_kills_of_itself_and_of_workers,
           ctrl_c_finishes_what_is_under_way, a_second_batch_is_refused,
           failures_are_listed_and_retried, a_mended_file_loses_its_failure,
           wrong_use_writes_nothing, a_full_disk_stops_it_and_counts_what_is_there,
           csv_holds_the_same, questions_of_a_file,
           a_daemon_that_goes_stops_the_batch, a_private_daemon_serves_a_batch])
