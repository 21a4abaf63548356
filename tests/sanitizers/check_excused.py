"""Each line of excused.txt has a reason and a test that asks for it: an excuse that nobody needs
any more is an error."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def sources_of(tests):
    for folder, _, names in os.walk(tests):
        for name in names:
            if name.endswith((".cc", ".py")) and folder != HERE:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    yield os.path.splitext(name)[0], file.read()


def main():
    sources = list(sources_of(os.path.dirname(HERE)))
    errors = []
    with open(os.path.join(HERE, "excused.txt"), encoding="utf-8") as file:
        lines = [line.split(None, 1) for line in file if not line.startswith("#")]
    for name, *reason in lines:
        if not reason or len(reason[0].split()) < 5:
            errors.append(f"{name}: no reason")
        if not any(stem == name.split(".")[0] and f'"{name}"' in text for stem, text in sources):
            errors.append(f"{name}: nothing asks for it")
    print("\n".join(errors) or f"{len(lines)} excuses, each with a reason and a test")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
