"""facetd with real processes: deaths, hangs, orphans, two daemons, missing programs, stopping.

    supervisor_life.py BIN_DIR [TEST...]
"""

import os
import signal
import socket
import subprocess
import sys
import time

from patience import patient, patient_ms
from supervisor_harness import Daemon, children_of, is_alive, wait_for

BIN = sys.argv[1]
SHORT = f"idle_deadline_ms = {patient_ms(1500)}\nbroker_deadline_ms = {patient_ms(1500)}"
QUICK = "restart_backoff_ms = 50\nrestart_backoff_max_ms = 200"


def milliseconds(since):
    return f"{1e3 * (time.monotonic() - since):.1f} ms"


def test_start_and_stop():
    daemon = Daemon(BIN)
    line = daemon.process.stdout.readline().decode()
    assert line == f"facet is ready: {daemon.socket_path}\n", line
    told = wait_for("READY=1", daemon.notifications)
    assert "READY=1" in told, told
    assert oct(os.stat(daemon.run_dir).st_mode & 0o777) == "0o750"
    assert os.stat(daemon.socket_path).st_mode & 0o007 == 0
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    print(f"  {daemon.num_fds()} descriptors, {len(daemon.children())} children")
    started = time.monotonic()
    assert daemon.stop() == 0
    print(f"  stopped in {milliseconds(started)}")
    assert daemon.left_over == [], daemon.left_over


def test_every_child_is_replaced():
    daemon = Daemon(BIN, supervisor=QUICK)
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    former = daemon.pids()
    for part in ("--worker 0", "--worker 1", "facet-decoder"):
        started = time.monotonic()
        os.kill(former[part], signal.SIGKILL)
        now = daemon.wait_replaced(part, former[part])
        print(f"  {part}: a successor runs after {milliseconds(started)}")
        others = {key: pid for key, pid in daemon.pids().items() if key != part}
        assert others == {key: former[key] for key in others}, (part, others, former)
        former[part] = now
    wait_for("the new workers", lambda: daemon.num_ready() == 4)
    started = time.monotonic()
    hellos = daemon.log().count("worker_hello")
    os.kill(former["facet-broker"], signal.SIGKILL)
    for part in ("facet-broker", "facet-decoder"):
        daemon.wait_replaced(part, former[part])
    wait_for("the workers' hellos", lambda: daemon.log().count("worker_hello") == hellos + 2)
    print(f"  facet-broker: everything serves again after {milliseconds(started)}")
    now = daemon.pids()
    for part in ("--worker 0", "--worker 1"):
        assert now[part] == former[part], (part, now, former)
    assert daemon.num_ready() == 4, daemon.log()
    assert daemon.stop() == 0


def test_nothing_leaks_over_many_deaths():
    daemon = Daemon(BIN, supervisor=QUICK)
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    before = daemon.num_fds()
    for round_number in range(60):
        part = ("--worker 0", "facet-decoder", "--worker 1", "facet-broker")[round_number % 4]
        former = wait_for(part, lambda: daemon.pid_of(part))
        os.kill(former, signal.SIGKILL)
        daemon.wait_replaced(part, former)
    wait_for("everybody", lambda: len(daemon.children()) == 4)
    wait_for("the same number of descriptors", lambda: daemon.num_fds() == before)
    assert daemon.stop() == 0


def test_own_fault_or_not():
    daemon = Daemon(BIN, supervisor=QUICK)
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    # Faults of its own: supervisor_blame.py.
    cases = ((signal.SIGSEGV, 0), (signal.SIGKILL, 0), (signal.SIGTERM, 0), (signal.SIGABRT, 0))
    for count, (number, fault) in enumerate(cases):
        wait_for("its signal handlers", lambda: daemon.num_ready() == 2 + count)
        pid = wait_for("worker 0", lambda: daemon.pid_of("--worker 0"))
        seen = daemon.log().count("worker_dead")
        os.kill(pid, number)
        wait_for("its death in the broker's log",
                 lambda: daemon.log().count("worker_dead") == seen + 1)
        line = [text for text in daemon.log().splitlines() if "worker_dead" in text][-1]
        assert f"own_fault={fault}" in line, (number, line)
        daemon.wait_replaced("--worker 0", pid)
    assert daemon.stop() == 0


def test_deaths_are_noticed_before_the_memory_is_freed():
    resident = os.environ.get("FACET_TEST_RESIDENT", "512MiB")
    daemon = Daemon(BIN, num_workers=1, supervisor=QUICK, worker=f'echo.memory = "{resident}"')
    for count, number in enumerate((signal.SIGKILL, signal.SIGSEGV) * 3):
        wait_for("the worker", lambda: daemon.num_ready() == 1 + count, 60)
        pid = daemon.pid_of("--worker 0")
        started = time.monotonic()
        os.kill(pid, number)
        wait_for("its death in the broker's log",
                 lambda: daemon.log().count("worker_dead") == 1 + count)
        noticed = milliseconds(started)
        wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}"))
        print(f"  {resident} {number.name}: noticed after {noticed}, reaped after "
              f"{milliseconds(started)}")
        line = [text for text in daemon.log().splitlines() if "worker_dead" in text][-1]
        assert "own_fault=0" in line and f"exit_code=-{int(number)}" in line, line
    assert daemon.stop() == 0


def test_stopped_processes_are_replaced():
    daemon = Daemon(BIN, supervisor=f"{SHORT}\n{QUICK}")
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    pid = daemon.pid_of("--worker 1")
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    daemon.wait_replaced("--worker 1", pid)
    print(f"  a stopped worker is replaced after {milliseconds(started)}")
    line = [text for text in daemon.log().splitlines() if "worker_dead" in text][-1]
    assert "own_fault=0" in line, line
    pid = daemon.pid_of("facet-broker")
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    daemon.wait_replaced("facet-broker", pid)
    print(f"  a stopped broker is replaced after {milliseconds(started)}")
    assert daemon.stop() == 0


def test_a_warm_up_has_a_deadline_of_its_own():
    os.environ["FACET_ECHO_WARM_UP_MS"] = "3600000"
    try:
        daemon = Daemon(BIN, num_workers=1, wait=False, supervisor="warmup_deadline_ms = 300\n"
                        f"load_deadline_ms = 3600000\nstep_deadline_ms = 3600000\n{QUICK}")
        wait_for("its end", lambda: "worker 0 hangs: no progress" in daemon.log())
        wait_for("its last words", lambda: "phase=warmup" in daemon.log())
        line = [text for text in daemon.log().splitlines() if "worker_dead" in text][0]
        assert "own_fault=1" in line, line
    finally:
        del os.environ["FACET_ECHO_WARM_UP_MS"]
    assert daemon.stop() == 0


def test_nothing_outlives_the_supervisor():
    for round_number in range(5):
        daemon = Daemon(BIN)
        if round_number % 2:
            wait_for("both workers", lambda: daemon.num_ready() == 2)
        pids = list(daemon.children())
        started = time.monotonic()
        os.kill(daemon.pid, signal.SIGKILL)
        wait_for("the end of all", lambda: not any(is_alive(pid) for pid in pids), 5)
        took = milliseconds(started)
        daemon.process.wait()
        assert os.path.exists(daemon.socket_path)
        # Its sockets and lock file are left behind: the next one replaces them.
        successor = Daemon(BIN, folder=daemon.folder)
        successor.stop()
        daemon.close()
        assert daemon.left_over == [], daemon.left_over
    print(f"  killed: its children are gone after {took}")


def test_two_daemons():
    daemon = Daemon(BIN)
    wait_for("both workers", lambda: daemon.num_ready() == 2)
    before = daemon.pids()
    for _ in range(10):
        second = subprocess.run([os.path.join(BIN, "facetd"), "--config", daemon.config],
                                capture_output=True, timeout=patient(10))
        message = second.stderr.decode()
        assert second.returncode == 1, (second.returncode, message)
        assert f"in use by another facetd, pid {daemon.pid}" in message, message
    assert daemon.pids() == before
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(daemon.socket_path)
    probe.close()
    # Started together, again and again: one serves each time, the others say who.
    assert daemon.stop() == 0
    for _ in range(10):
        owner = Daemon(BIN, wait=False)
        rivals = [Daemon(BIN, folder=owner.folder, wait=False) for _ in range(2)]
        ready = [one.wait_ready() for one in (owner, *rivals)]
        assert sum(ready) == 1, ready
        for is_ready, one in zip(ready[1:], rivals):
            assert (one.stop() == 0) if is_ready else (one.wait() == 1)
        if ready[0]:
            assert owner.stop() == 0
        else:
            assert owner.wait() == 1


def test_foreign_files_are_left_alone():
    daemon = Daemon(BIN)
    daemon_folder_config = open(daemon.config).read()
    assert daemon.stop() == 0
    os.makedirs(daemon.run_dir, 0o750)
    with open(daemon.config, "w") as file:
        file.write(daemon_folder_config)
    with open(daemon.socket_path, "w") as file:
        file.write("precious")
    done = subprocess.run([os.path.join(BIN, "facetd"), "--config", daemon.config],
                          capture_output=True, timeout=patient(10))
    assert done.returncode == 1 and b"is not a socket" in done.stderr, done
    assert open(daemon.socket_path).read() == "precious"
    for name in os.listdir(daemon.run_dir):
        os.unlink(os.path.join(daemon.run_dir, name))
    os.rmdir(daemon.run_dir)
    os.unlink(daemon.config)
    os.rmdir(daemon.folder)


def test_missing_programs():
    for name in ("facet-broker", "facet-decoder", "facet-worker-echo"):
        daemon = Daemon(BIN, stand_ins={name: None}, wait=False)
        assert not daemon.wait_ready()
        assert daemon.wait() == 1
        assert f"{name}: No such file or directory" in daemon.final_log, daemon.final_log
    # One that disappears later: said by name, tried again with a back-off, found again.
    daemon = Daemon(BIN, supervisor=QUICK, stand_ins={"unused": None})
    program = os.path.join(daemon.bin_dir, "facet-worker-echo")
    os.rename(program, program + ".away")
    pid = daemon.pid_of("--worker 0")
    os.kill(pid, signal.SIGKILL)
    wait_for("the problem in the log",
             lambda: f"could not be started: {program}: No such file" in daemon.log())
    os.rename(program + ".away", program)
    wait_for("worker 0 again", lambda: daemon.pid_of("--worker 0"))
    assert daemon.stop() == 0


def test_bad_model_ends_it():
    daemon = Daemon(BIN, stand_ins={"facet-worker-echo": "exit 72"}, wait=False)
    assert not daemon.wait_ready()
    assert daemon.wait() == 72
    assert "disabled: bad configuration or model" in daemon.final_log, daemon.final_log
    assert daemon.left_over == [], daemon.left_over


def test_back_off_is_seen():
    daemon = Daemon(BIN, num_workers=1, stand_ins={"facet-worker-echo": "exit 70"}, wait=False,
                    supervisor="restart_backoff_ms = 100\nrestart_backoff_max_ms = 400")
    wait_for("seven deaths", lambda: daemon.log().count("exited with 70") >= 7)
    took = time.monotonic() - daemon.started
    assert took >= 0.1 + 0.2 + 0.4 + 0.4 + 0.4, took  # 0, 100, 200, 400, 400, 400 ms
    assert daemon.stop() == 0


def test_stubborn_children():
    script = "trap '' TERM ABRT; echo trapped >&2; while :; do sleep 0.05; done"
    for signals, at_least in (((signal.SIGTERM,), 0.3), ((signal.SIGTERM, signal.SIGINT), 0)):
        daemon = Daemon(BIN, num_workers=1, wait=False, supervisor="kill_grace_ms = 300",
                        stand_ins={"facet-worker-echo": script})
        wait_for("the worker", lambda: daemon.pid_of("--worker 0"))
        wait_for("its trap", lambda: "trapped" in daemon.log())
        pids = list(daemon.children())
        started = time.monotonic()
        assert daemon.stop(signals) == 0
        took = time.monotonic() - started
        assert at_least <= took < 3, took
        assert not any(is_alive(pid) for pid in pids)


def test_private_daemon_ends_with_its_parent():
    # A parent of its own, killed without a chance to say good-bye.
    parent = "import subprocess, sys; subprocess.Popen(sys.argv[1:], close_fds=False).wait()"
    daemon = Daemon(BIN, through=(sys.executable, "-c", parent), arguments=("--exit-with-parent",))
    facetd = wait_for("facetd", lambda: next(iter(daemon.children()), None))
    pids = [facetd, *children_of(facetd)]
    assert len(pids) == 5, pids
    started = time.monotonic()
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for("the end of all", lambda: not any(is_alive(pid) for pid in pids), 5)
    print(f"  parent killed: all gone after {milliseconds(started)}")
    daemon.wait()
    assert daemon.left_over == [], daemon.left_over


def test_runtime_dir_option():
    daemon = Daemon(BIN)
    other = os.path.join(daemon.folder, "other")
    second = subprocess.Popen([os.path.join(BIN, "facetd"), "--config", daemon.config,
                               "--runtime-dir", other], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    line = second.stdout.readline().decode()
    assert line == f"facet is ready: {other}/facet.sock\n", line
    second.terminate()
    assert second.wait(patient(10)) == 0
    second.stdout.close()
    assert daemon.stop() == 0


def test_check_config():
    daemon = Daemon(BIN)
    check = [os.path.join(BIN, "facetd"), "--check-config", "--config"]
    good = subprocess.run([*check, daemon.config], capture_output=True)
    assert good.returncode == 0 and good.stdout.endswith(b": ok\n"), good
    bad_path = os.path.join(daemon.folder, "bad.toml")
    with open(bad_path, "w") as file:
        file.write('[worker]\nengine = "echo"\ncount = 65\n[broker]\nnonsense = 1\n')
    bad = subprocess.run([*check, bad_path], capture_output=True)
    text = bad.stderr.decode()
    assert bad.returncode == 72 and ":3: worker.count" in text and "nonsense" in text, bad
    assert daemon.stop() == 0


def main():
    names = sys.argv[2:] or [name for name in globals() if name.startswith("test_")]
    for name in names:
        started = time.monotonic()
        print(name, flush=True)
        globals()[name]()
        print(f"  passed in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
