#!/usr/bin/env python3
"""`facet doctor`: exit codes, JSON, a daemon that runs, cards that a fake driver lists.

Usage: cli_doctor.py BIN_DIR FAKE_DRIVER
"""

import json
import os
import sys
import tempfile

from cli_harness import Facet, expect, expect_exit, run_cases
from pool_daemon import Daemon

BIN, DRIVER = sys.argv[1:3]
FOLDER = tempfile.TemporaryDirectory(prefix="facet-doctor-")
FACET = Facet(BIN, FOLDER.name)
FACET.env["CUDA_VISIBLE_DEVICES"] = ""
DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs/demo-model")


def examine(*words, code=0, env=None):
    """{subject: [(level, text)]}"""
    facet = Facet(BIN, FOLDER.name)
    facet.env.update(FACET.env, **(env or {}))
    done = facet.run("doctor", "--json", *words)
    expect_exit(done, code)
    report = json.loads(done.out)
    expect(report["ok"] == (code == 0), report)
    found = {}
    for check in report["checks"]:
        found.setdefault(check["subject"], []).append((check["level"], check["text"]))
    return found, report


def config(text):
    path = os.path.join(FOLDER.name, "facet.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def this_host_can_run_the_demo():
    found, _ = examine("--model", DEMO)
    expect({level for levels in found.values() for level, _ in levels} <= {"ok", "warning"}, found)
    expect("4096 tokens" in found["fits"][0][1], found["fits"])
    done = FACET.run("doctor", "--config", config('[worker]\nengine = "echo"\n'))
    expect_exit(done, 0)
    expect(done.out.endswith("warnings\n") or done.out.endswith("warning\n"), done.out)


def what_is_wrong_is_an_error_with_advice():
    found, report = examine("--config", config("[worker]\ncuont = 1\n"), code=1)
    expect("worker.cuont" in found["config"][0][1], found["config"])
    expect([c for c in report["checks"] if c["level"] == "error" and c["advice"]], report)
    found, _ = examine("--model", "/nonexistent", code=1)
    expect(found["model"][0][0] == "error", found)
    found, _ = examine("--model", DEMO, "--config", config(
        f'[model]\npath = "{DEMO}"\n[worker]\ndevice_max_memory = "20MB"\n'), code=1)
    expect(found["fits"][0][0] == "error" and "20" in found["fits"][0][1], found["fits"])
    expect_exit(FACET.run("doctor", "--nothing"), 2)


def a_daemon_is_seen():
    with Daemon(BIN, workers=1) as daemon:
        found, _ = examine("--config", daemon.config)
        expect("one serves at " + daemon.socket_path in found["daemon"][0][1], found["daemon"])
        expect(str(daemon.process.pid) in found["daemon"][0][1], found["daemon"])


def cards_are_told():
    env = {"FACET_CUDA_DRIVER": DRIVER, "CUDA_VISIBLE_DEVICES": "1,0",
           "FACET_FAKE_GPUS": "New=1=9.0=80000000000=79000000000;Old=2=7.0=16000000000=15900000000"}
    _, report = examine("--model", "/nonexistent", code=1, env=env)
    expect([gpu["name"] for gpu in report["gpus"]] == ["Old", "New"], report["gpus"])
    expect(report["gpus"][1] == {
        "index": 1, "uuid": "GPU-01010101-0101-0101-0101-010101010101", "name": "New",
        "compute_capability": "9.0", "memory_bytes": 80000000000, "free_bytes": 79000000000},
        report["gpus"])
    levels = [c["level"] for c in report["checks"] if c["subject"] == "gpu"]
    expect(levels[:2] == ["error", "ok"], report["checks"])


def one_question_takes_one_gpu_and_asks_for_no_list():
    facet = Facet(BIN, FOLDER.name)
    facet.env.update(FACET_CUDA_DRIVER=DRIVER, FACET_FAKE_FAULT="error")
    done = facet.run("run", "-p", "hello", "--model", DEMO, "--max-tokens", "1", "--json")
    expect_exit(done, 0)


run_cases([one_question_takes_one_gpu_and_asks_for_no_list, this_host_can_run_the_demo,
           what_is_wrong_is_an_error_with_advice, a_daemon_is_seen, cards_are_told])
