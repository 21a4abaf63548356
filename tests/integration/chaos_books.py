"""What a pool holds at rest: descriptors, threads, processes, shared memory, slots, records."""

import os
import time

from patience import patient
from pool_daemon import children_of, count_fds, family_of, program_of, state_of


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def shared_memory_of(pid):
    """Inodes of shared memory that is open or mapped, unlinked or not."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            if os.readlink(path).startswith(("/dev/shm/", "/memfd:")):
                found.add(os.stat(path).st_ino)
        except FileNotFoundError:
            pass
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 5)
            if len(words) == 6 and words[5].startswith(("/dev/shm/", "/memfd:")):
                found.add(int(words[4]))
    return found


def of_processes(pool):
    """{what: number}; raises OSError when a process ends while it is looked at."""
    book, memory = {}, set()
    numbers = {}
    for pid in family_of(pool.process.pid):
        program = program_of(pid)
        numbers[program] = numbers.get(program, 0) + 1
        name = f"{program} {numbers[program]}"
        book[f"descriptors of {name}"] = count_fds(pid)
        book[f"threads of {name}"] = threads_of(pid)
        memory |= shared_memory_of(pid)
    for program, number in numbers.items():
        book[f"processes {program}"] = number
    book["objects in shared memory"] = len(memory)
    book["orphans"] = len(live_orphans(pool))
    return book


def live_orphans(pool):
    """Who outlived its parent and is alive; we are the reaper of those who are not."""
    alive = []
    for pid in children_of(os.getpid()):
        if pid == pool.process.pid:
            continue
        if state_of(pid) == "Z":
            os.waitpid(pid, os.WNOHANG)
        else:
            alive.append(pid)
    return alive


def of_status(status):
    """{what: number}, all zero at rest."""
    requests, ring, ledger = status["requests"], status["ring"], status["ledger"]
    book = {f"requests {name}": requests[name]
            for name in ("queued_interactive", "queued_batch", "running", "suspects",
                         "terminal_records", "uploads", "decode_jobs")}
    for arena in ("ingest", "pixels"):
        book[f"ring {arena} pages"] = ring[arena]["used"]
        book[f"ring {arena} slots"] = ring[arena]["slots"]
    book["ledger records"] = ledger["records"]
    book["ledger pages"] = ledger["used"]
    for worker in status["workers"]:
        book[f"outstanding at worker {worker['index']}"] = worker["outstanding"]
    book["not conserved"] = int(status["conservation"] != "ok")
    return book


def differences(before, after):
    """What there is more of. Fewer is no leak: `before` may have been taken in a busy moment, and
    every process that must be there is waited for."""
    return {what: (before.get(what, 0), after[what])
            for what in sorted(after) if after[what] > before.get(what, 0)}


def take_least(pool, client):
    """The least of some looks in a row: what comes and goes is not part of a baseline."""
    looks = []
    for _ in range(5):
        looks.append(take(pool, client))
        time.sleep(0.1)
    return {what: min(look.get(what, 0) for look in looks) for what in looks[0]}


def take(pool, client):
    """Of the processes, once every worker is ready, and what the broker says it holds."""
    deadline = time.monotonic() + patient(30)
    while True:
        try:
            status = client.status()
            if all(w["state"] == "ready" for w in status["workers"]) and status["decoder_up"]:
                return of_processes(pool) | of_status(status)
        except (OSError, TimeoutError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the pool is not whole within 30 s")
        time.sleep(0.05)


# What finished requests hold until their time to live is over.
OF_FINISHED = {"requests terminal_records", "ledger records", "ledger pages"}


def leaks(pool, client, before, timeout_s, but=frozenset()):
    """{what: (before, after)} of what has not come back to `before`, and in the broker to nothing,
    within the time; what is in `but` is not looked at."""
    at_broker = of_status(client.status())
    before = {what: 0 if what in at_broker else number
              for what, number in before.items()}
    deadline = time.monotonic() + patient(timeout_s)
    while True:
        found = {what: numbers for what, numbers in differences(before, take(pool, client)).items()
                 if what not in but}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
