#!/usr/bin/env python3
"""Style is a test: include ladder, homes of libraries, lengths, banned words, READMEs.

Usage: check_style.py [FOLDER]   prints each offence as file:line: text; exit status 1 if any.
The rules themselves are in rules.py.
"""

import os
import re
import sys

import rules

CODE = (".h", ".cc", ".cu", ".cuh")
TEXT = CODE + (".py", ".sh", ".cmake", ".toml", ".md", ".service", "CMakeLists.txt", ".ci/run")
TOP_ROOMS = ("kernels", "common", "broker", "worker")
SKIPPED = {"build", "__pycache__", ".git"}
# Opens a string or a comment; char literals first, so that '"' opens nothing.
TOKENS = re.compile(
    r"'(?:\\.|[^'\\\n])'|R\"(?P<tag>[^(\s]*)\((?:.|\n)*?\)(?P=tag)\"|\"(?:\\.|[^\"\\\n])*\""
    r"|//[^\n]*|/\*(?:.|\n)*?\*/")


def files_of(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and (f == ".ci" or f[0] != "."))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if path.endswith(TEXT):
                yield path


def bare(code):
    """Code without the content of strings and comments; lines stay where they are."""
    def blank(match):
        text = match.group(0)
        return "\n" * text.count("\n") if text.startswith("/") else '""' + "\n" * text.count("\n")
    return TOKENS.sub(blank, code)


def functions_of(code):
    """(name, first line, number of lines) of each function body outside of another function."""
    code = re.sub(r"^\s*#(?:\\\n|[^\n])*", lambda m: "\n" * m.group(0).count("\n"), code,
                  flags=re.MULTILINE)
    start, head, opened = 0, None, 0
    stack = []  # what each open brace is: "container", "function", or "inner"
    for match in re.finditer(r"[{};]", code):
        at, char = match.start(), match.group(0)
        if char == "{":
            before = code[start:at]
            if "function" in stack:
                stack.append("inner")
            elif re.search(r"\b(namespace|class|struct|union|enum|extern)\b", before) and \
                    not re.search(r"\)[\s\w]*$", before):
                stack.append("container")
            elif re.search(r"\)[^=]*$", before):
                stack.append("function")
                head, opened = re.search(r"([\w~:]+)\s*\(", before), at
            else:
                stack.append("inner")
        elif char == "}" and stack and stack.pop() == "function" and head:
            first = code.count("\n", 0, opened) + 1
            yield head.group(1), first, code.count("\n", opened, at) + 1
        start = at + 1


def room_of(path):
    """common/shm/ring.h -> common/shm; kernels and tests are one room each."""
    parts = path.split("/")
    if parts[0] in ("kernels", "tests"):
        return parts[0]
    return "/".join(parts[:2]) if len(parts) > 2 and parts[0] in TOP_ROOMS else None


def may_include(room, other):
    allowed = rules.ROOMS.get(room, [])
    return room == other or other in allowed or other.split("/")[0] in allowed


class Checker:
    def __init__(self, root):
        self.root = root
        self.offences = []
        self.includes = {}  # path -> [(line, included path)], for the search for cycles
        self.crash_points = {}  # name -> [(path, line)] where the programs have it
        self.named_points = {}  # name -> line of the table that has it

    def offend(self, path, line, text):
        self.offences.append((path, line, text))

    def run(self):
        self.check_rules()
        rooms = set()
        for path in files_of(self.root):
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                try:
                    text = file.read()
                except UnicodeDecodeError:
                    self.offend(path, 1, "is not UTF-8")
                    continue
            room = room_of(path)
            if room in rules.ROOMS or (room and path.endswith(CODE)):
                rooms.add(room)
            self.check_text(path, text)
            if path.endswith(CODE):
                self.check_code(path, room, text)
                self.find_crash_points(path, room, text)
            if path == rules.CRASH_POINT_TABLE:
                self.read_crash_point_table(text)
        for room in sorted(rooms - {"tests"}):
            self.check_room(room)
        self.check_cycles()
        self.check_crash_points()
        return sorted(self.offences)

    def check_rules(self):
        seen = []
        for room, allowed in rules.ROOMS.items():
            for other in allowed:
                if not [r for r in seen if r == other or r.startswith(other + "/")]:
                    self.offend("tests/style/rules.py", 1, f"{room} names {other}, not above it")
            seen.append(room)

    def check_text(self, path, text):
        lines = text.split("\n")
        code_like = not path.endswith(".md")
        if code_like and len(lines) - 1 > rules.MAX_FILE_LINES:
            self.offend(path, len(lines) - 1, f"more than {rules.MAX_FILE_LINES} lines")
        for number, line in enumerate(lines, 1):
            if code_like and len(line) > rules.MAX_LINE_COLUMNS:
                self.offend(path, number,
                            f"{len(line)} columns, at most {rules.MAX_LINE_COLUMNS}")
            if line != line.rstrip() and code_like:
                self.offend(path, number, "blanks at the end of the line")
            if "\t" in line and code_like:
                self.offend(path, number, "a tab")
            if path.startswith("tests/style/"):
                continue  # the rules name what they forbid
            for pattern, instead in rules.BANNED_WORDS.items():
                found = re.search(pattern, line)
                if found:
                    self.offend(path, number, f'"{found.group(0)}": {instead}')

    def check_code(self, path, room, text):
        if path.endswith((".h", ".cuh")) and "#pragma once" not in text:
            self.offend(path, 1, "no #pragma once")
        if not re.fullmatch(r"[a-z0-9_]+\.\w+", os.path.basename(path)):
            self.offend(path, 1, "file names are lower_snake_case")
        code = bare(text)
        for number, line in enumerate(text.split("\n"), 1):
            self.check_include(path, room, number, line)
        if room == "tests":
            return
        if path not in rules.EXCEPTION_ADAPTERS:
            for number, line in enumerate(code.split("\n"), 1):
                found = re.search(r"\b(throw|try|catch)\b", line)
                if found:
                    self.offend(path, number, f"{found.group(0)}: only in an adapter (rules.py)")
        self.check_main(path, code)
        self.check_functions(path, code)

    def check_include(self, path, room, number, line):
        own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if own:
            included = own.group(1)
            if not os.path.exists(os.path.join(self.root, included)):
                self.offend(path, number, f'"{included}" is no path from the root of the tree')
                return
            self.includes.setdefault(path, []).append((number, included))
            other = room_of(included)
            if other == "tests" and room != "tests":
                self.offend(path, number, f"includes {included}: nothing includes tests")
            elif room != "tests" and not may_include(room, other):
                self.offend(path, number, f"{room} may not include {other} ({included})")
        foreign = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if foreign:
            for prefix, homes in rules.HOMES.items():
                if foreign.group(1).startswith(prefix) and room not in homes + ["tests"]:
                    self.offend(path, number,
                                f"<{foreign.group(1)}> is at home in {', '.join(homes)} only")

    def check_main(self, path, code):
        for found in re.finditer(r"^int main\(", code, re.MULTILINE):
            depth, end = 0, found.end()
            while end < len(code):
                depth += {"{": 1, "}": -1}.get(code[end], 0)
                end += 1
                if depth == 0 and code[end - 1] == "}":
                    break
            lines = code.count("\n", found.start(), end) + 1
            if lines >= rules.MAX_MAIN_LINES:
                self.offend(path, code.count("\n", 0, found.start()) + 1,
                            f"main() has {lines} lines, must be under {rules.MAX_MAIN_LINES}")

    def check_functions(self, path, code):
        for name, first, lines in functions_of(code):
            limit = rules.LONG_FUNCTIONS.get(f"{path}:{name}", rules.MAX_FUNCTION_LINES)
            if lines > limit:
                self.offend(path, first, f"{name}() has {lines} lines, at most {limit}")

    def check_room(self, room):
        if room not in rules.ROOMS:
            self.offend(room, 0, "a room that tests/style/rules.py does not know")
        if not os.path.exists(os.path.join(self.root, room, "README.md")):
            self.offend(room, 0, "no README.md")

    def find_crash_points(self, path, room, text):
        if room == "tests":
            return
        for found in re.finditer(r'\bFACET_CRASH_POINT\("([^"]*)"\)', text):
            line = text.count("\n", 0, found.start()) + 1
            self.crash_points.setdefault(found.group(1), []).append((path, line))

    def read_crash_point_table(self, text):
        for number, line in enumerate(text.split("\n"), 1):
            if line.startswith("|"):
                for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", line):
                    self.named_points.setdefault(name, number)

    def check_crash_points(self):
        """Each has its place in the table, and the table names no other."""
        for name, places in self.crash_points.items():
            if name not in self.named_points:
                self.offend(*places[0], f"crash point {name} is not in {rules.CRASH_POINT_TABLE}")
            for path, line in places[1:]:
                self.offend(path, line, f"crash point {name} is in {places[0][0]}, too")
        for name, line in self.named_points.items():
            if name not in self.crash_points:
                self.offend(rules.CRASH_POINT_TABLE, line, f"no program has crash point {name}")

    def check_cycles(self):
        """Depth first over headers; a way back to a file on the way is a cycle."""
        done, way = set(), []

        def visit(path):
            if path in way:
                cycle = way[way.index(path):] + [path]
                self.offend(path, 1, "include cycle: " + " -> ".join(cycle))
            elif path not in done:
                way.append(path)
                for _, included in self.includes.get(path, []):
                    visit(included)
                way.pop()
                done.add(path)

        for path in sorted(self.includes):
            visit(path)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../..")
    offences = Checker(os.path.abspath(root)).run()
    for path, line, text in offences:
        print(f"{path}:{line}: {text}")
    print(f"{len(offences)} offences")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
