#!/usr/bin/env python3
"""`facet run`, `status` and `tokenize` against real processes; private daemons and their end.

Usage: cli_run.py BIN_DIR
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time

from cli_harness import Facet, expect, expect_exit, run_cases
from patience import patient
from pool_daemon import Daemon, everything_is_gone, family_of, wait_until
from pool_images import mixed_images, write_folder

BIN = sys.argv[1]
WORK = tempfile.TemporaryDirectory(prefix="facet-cli-")
RUNTIME = os.path.join(WORK.name, "runtime")
os.mkdir(RUNTIME, 0o700)
FACET = Facet(BIN, RUNTIME)
IMAGES = write_folder(WORK.name, mixed_images(5, 4, max_side=120))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def echo_config(token_us):
    path = os.path.join(WORK.name, f"echo-{token_us}.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'[worker]\nengine = "echo"\ncount = 1\n[worker.echo]\ntoken_us = {token_us}\n'
                   '[ring]\ningest_bytes = "32MiB"\npixel_bytes = "64MiB"\n'
                   f'[broker]\nruntime_dir = "{WORK.name}/nobody"\n')
    return path


def answers_with_a_daemon():
    with Daemon(BIN, workers=1) as daemon:
        at = ("--socket", daemon.socket_path)
        plain = FACET.run("run", *IMAGES[:2], "-p", "what?", "--max-tokens", "12", *at)
        expect_exit(plain, 0)
        whole = FACET.run("run", *IMAGES[:2], "-p", "-", "--max-tokens", "12", "--json", *at,
                          text="what?\n")
        expect_exit(whole, 0)
        answer = json.loads(whole.out)
        expect(plain.out == answer["text"] + "\n", plain.out, answer)
        expect(len(answer["token_ids"]) == 12 and answer["finish_reason"] == "length", answer)
        expect(answer["usage"]["completion_tokens"] == 12, answer)
        expect(answer["usage"]["image_tokens"] > 0 and answer["attempts"] == 1, answer)
        expect(answer["timings"]["total_ms"] >= answer["timings"]["first_token_ms"], answer)
        swapped = FACET.run("run", IMAGES[1], IMAGES[0], "-p", "what?", "--max-tokens", "12", *at)
        expect(swapped.out != plain.out, "the order of images must matter")
        text_only = FACET.run("run", "-p", "what?", "--max-tokens", "3", *at)
        expect_exit(text_only, 0)
        FACET.env["FACET_SOCKET"] = daemon.socket_path
        by_environment = FACET.run("run", "-p", "what?", "--max-tokens", "3")
        del FACET.env["FACET_SOCKET"]
        expect(by_environment.out == text_only.out, by_environment.out)
        by_config = FACET.run("run", "-p", "what?", "--max-tokens", "3", "--config", daemon.config)
        expect(by_config.out == text_only.out and by_config.err == "", by_config.err)
        table = FACET.run("status", *at)
        expect_exit(table, 0)
        expect("ready" in table.out and daemon.socket_path in table.out, table.out)
        status = json.loads(FACET.run("status", "--json", *at).out)
        expect(status["workers"][0]["finished"] == 6, status)
        expect(status["conservation"] == "ok", status)


def errors_are_named():
    with Daemon(BIN, workers=1) as daemon:
        at = ("--socket", daemon.socket_path)
        broken = os.path.join(WORK.name, "broken.png")
        with open(broken, "wb") as file:
            file.write(b"this is no image")
        for words, code, part in [
                ((broken, "-p", "x"), 1, "image 0"),
                (("-p", "x", "--top-p", "7"), 2, "params.top_p: 7 is not between"),
                (("/no/such.png", "-p", "x"), 2, "/no/such.png: No such file"),
                ((WORK.name, "-p", "x"), 2, "is a folder"),
                ((), 2, "a prompt is needed"),
                (("-p", "-"), 2, "standard input: the prompt is empty"),
                (("-p", "x", "--max-tokens", "100000"), 1, "16384"),
                (("-p", "x", "--no-such-option"), 2, "no-such-option")]:
            done = FACET.run("run", *words, *at)
            expect_exit(done, code)
            expect(part in done.err, words, done.err)
        failed = FACET.run("run", broken, "-p", "x", "--json", *at)
        expect_exit(failed, 1)
        answer = json.loads(failed.out)
        expect(answer["code"] == "unsupported" and "image 0" in answer["error"], answer)
    for command in (("run", "-p", "x"), ("status",), ("batch", IMAGES[0], "-p", "x", "-o",
                                                     os.path.join(WORK.name, "none.jsonl"))):
        nobody = FACET.run(*command, "--socket", "/no/such/socket")
        expect_exit(nobody, 3)
        expect("/no/such/socket" in nobody.err, nobody.err)
    expect_exit(FACET.run("status"), 3)
    expect_exit(FACET.run("run", "-p", "x", "--config", "/no/such.toml"), 3)
    expect_exit(FACET.run(), 2)
    for command in ("run", "batch", "status", "tokenize", "plan"):
        shown = FACET.run(command, "--help")
        expect_exit(shown, 0)
        expect("Example" in shown.out, shown.out)


def ctrl_c_cancels():
    with Daemon(BIN, workers=1, worker="[worker.echo]\ntoken_us = 20000") as daemon:
        at = ("--socket", daemon.socket_path)
        long = ("-p", "x", "--max-tokens", "2000", "--ignore-eos", *at)
        running = FACET.start("run", IMAGES[0], *long)
        expect(running.stdout.read(8), "text is streamed")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=patient(5))
        expect(running.returncode == 130, running.returncode)
        wait_until(lambda: json.loads(FACET.run("status", "--json", *at).out)["requests"]["running"]
                   == 0, 5, "the daemon stops computing")
        # A reader that goes away is as good as Ctrl-C.
        running = FACET.start("run", *long)
        expect(running.stdout.read(1), "text is streamed")
        running.stdout.close()
        running.wait(timeout=patient(10))
        expect(running.returncode == 1, running.returncode)
        expect(running.stderr.read() == b"", "it goes quietly")
        wait_until(lambda: json.loads(FACET.run("status", "--json", *at).out)["requests"]["running"]
                   == 0, 5, "the daemon stops computing")


def what_cannot_be_written_is_told():
    with Daemon(BIN, workers=1) as daemon, open("/dev/full", "wb") as full:
        at = ("--socket", daemon.socket_path)
        for words in (("run", "-p", "x", *at), ("run", "-p", "x", "--json", *at), ("status", *at)):
            done = FACET.run(*words, stdout=full)
            expect_exit(done, 1)
            expect(done.err == "facet: cannot write the answer: No space left on device\n",
                   done.err)


def a_private_daemon_leaves_nothing():
    done = FACET.run("run", IMAGES[0], "-p", "x", "--max-tokens", "4", "--config",
                     echo_config(1000))
    expect_exit(done, 0)
    expect("starting a private daemon with the echo engine" in done.err, done.err)
    expect(os.listdir(RUNTIME) == [], os.listdir(RUNTIME))
    again = FACET.run("run", IMAGES[0], "-p", "x", "--max-tokens", "4", "--config",
                      echo_config(1000), "--json")
    expect(json.loads(again.out)["text"] + "\n" == done.out, again.out)


def start_private():
    running = FACET.start("run", "-p", "x", "--max-tokens", "5000", "--config", echo_config(20000))
    expect(running.stdout.read(4), "text is streamed")
    family = family_of(running.pid)
    expect(len(family) >= 5, "facet, facetd, broker, decoder, worker", family)
    return running, family


def ctrl_c_ends_a_private_daemon():
    running, family = start_private()
    os.killpg(running.pid, signal.SIGINT)  # as the terminal does
    running.communicate(timeout=patient(20))
    expect(running.returncode == 130, running.returncode)
    wait_until(lambda: everything_is_gone(family), 5, "its processes end")
    expect(os.listdir(RUNTIME) == [], os.listdir(RUNTIME))


def a_killed_command_leaves_no_process():
    running, family = start_private()
    running.kill()
    running.communicate()
    wait_until(lambda: everything_is_gone(family), 10, "its processes end")
    expect(os.listdir(RUNTIME) == [], os.listdir(RUNTIME))
    # Where even the cleaner is killed, the next private daemon sweeps the folder away.
    running, family = start_private()
    for kind in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none sees another one's death
        for pid in (running.pid, *family[1:]):
            try:
                os.kill(pid, kind)
            except ProcessLookupError:  # it went with its parent
                pass
    running.communicate()
    wait_until(lambda: everything_is_gone(family), 10, "its processes end")
    expect(len(os.listdir(RUNTIME)) == 1, os.listdir(RUNTIME))
    a_private_daemon_leaves_nothing()


def a_private_daemon_that_cannot_start_says_why():
    missing = FACET.run("run", "-p", "x", "--model", "/no/such/model")
    expect_exit(missing, 3)
    expect("/no/such/model" in missing.err, missing.err)
    wrong = os.path.join(WORK.name, "wrong.toml")
    with open(wrong, "w", encoding="utf-8") as file:
        file.write("[worker]\ncuont = 1\n")
    refused = FACET.run("run", "-p", "x", "--config", wrong)
    expect_exit(refused, 2)
    expect("cuont" in refused.err, refused.err)
    if os.path.exists(os.path.join(BIN, "facet-worker")):
        empty = os.path.join(WORK.name, "empty-model")
        os.makedirs(empty, exist_ok=True)
        start = time.monotonic()
        broken = FACET.run("run", "-p", "x", "--model", empty)
        expect_exit(broken, 3)
        expect("config.json" in broken.err, broken.err)
        expect(time.monotonic() - start < patient(60), "it does not wait for ever")
    expect(os.listdir(RUNTIME) == [], os.listdir(RUNTIME))


def tokenize_prints_ids():
    model = os.path.join(ROOT, "configs", "demo-model")
    done = FACET.run("tokenize", model, text="How many circles?")
    expect_exit(done, 0)
    ids = [int(word) for word in done.out.split()]
    expect(3 <= len(ids) <= 20, done.out)
    expect(FACET.run("tokenize", "/no/such/model", text="x").returncode != 0, "must fail")


def plan_shows_what_fits():
    if not os.path.exists(os.path.join(BIN, "facet-worker")):
        print("(this build has no facet-worker)", end=" ")
        return
    ask = ("plan", os.path.join(ROOT, "configs", "demo-model"), "--gpu-memory", "15GB")
    text = FACET.run(*ask)
    expect_exit(text, 0)
    expect("weights" in text.out and "lanes" in text.out, text.out)
    whole = FACET.run(*ask, "--json")
    expect_exit(whole, 0)
    device = json.loads(whole.out)["devices"][0]
    expect(device["budget_bytes"] == 15_000_000_000, device)
    expect(any(item["name"] == "weights" and item["bytes"] > 0 for item in device["items"]), device)
    tiny = FACET.run(*ask[:2], "--gpu-memory", "1MB")
    expect_exit(tiny, 1)
    expect_exit(FACET.run(*ask[:2], "--gpu-memory", "much"), 2)


def the_demo_model_is_found_from_the_programs_place():
    # Without facetd beside it no daemon starts, but which model it would be is told.
    for program, model in (("tree/build/release/bin", "tree/configs/demo-model"),
                           ("prefix/bin", "prefix/share/facet/demo-model")):
        folder, wanted = os.path.join(WORK.name, program), os.path.join(WORK.name, model)
        os.makedirs(folder)
        copy = Facet(folder, RUNTIME)
        shutil.copy(FACET.path, copy.path)
        nothing = copy.run("run", "-p", "x")
        expect_exit(nothing, 3)
        expect("give --model DIR or set FACET_MODEL" in nothing.err, nothing.err)
        os.makedirs(wanted)
        with open(os.path.join(wanted, "config.json"), "w", encoding="utf-8") as file:
            file.write("{}")
        found = copy.run("run", "-p", "x")
        expect_exit(found, 3)
        expect(f"starting a private daemon with {wanted}\n" in found.err, found.err)


run_cases([answers_with_a_daemon, errors_are_named, ctrl_c_cancels, what_cannot_be_written_is_told,
           a_private_daemon_leaves_nothing, ctrl_c_ends_a_private_daemon,
           a_killed_command_leaves_no_process, a_private_daemon_that_cannot_start_says_why,
           tokenize_prints_ids, plan_shows_what_fits,
           the_demo_model_is_found_from_the_programs_place])
