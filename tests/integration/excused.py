"""Parts of tests that cannot hold in a build with sanitizers: by name, from
tests/sanitizers/excused.txt."""

import os

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sanitizers", "excused.txt")


def excused(name, program):
    """False if the program has no sanitizer. Says the reason; a name must be listed."""
    with open(program, "rb") as file:
        code = file.read()
    if b"__asan_init" not in code and b"__tsan_init" not in code:
        return False
    with open(LIST, encoding="utf-8") as file:
        found = [line for line in file if line.split(" ")[0] == name]
    assert found, f"not in excused.txt: {name}"
    print(f"excused under a sanitizer: {found[0]}", end="", flush=True)
    return True
