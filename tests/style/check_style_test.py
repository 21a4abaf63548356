#!/usr/bin/env python3
"""Each rule of check_style.py is broken once, and must be found; a clean tree must pass."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_style

MAIN = "int main() {\n" + "  f();\n" * 40 + "}\n"


class Rules(unittest.TestCase):
    def offences(self, files, readmes=True):
        with tempfile.TemporaryDirectory(prefix="facet-style-") as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "wb") as file:
                    file.write(text if isinstance(text, bytes) else text.encode())
                room = check_style.room_of(path)
                if readmes and room and room != "tests":
                    with open(os.path.join(root, room, "README.md"), "w") as file:
                        file.write("# A room\n")
            return [f"{path}:{line}: {text}"
                    for path, line, text in check_style.Checker(root).run()]

    def assert_found(self, wanted, files, readmes=True):
        found = self.offences(files, readmes)
        self.assertEqual(len(found), 1, found)
        self.assertIn(wanted, found[0])

    def header(self, text=""):
        return "#pragma once\n" + text

    def test_clean_tree(self):
        self.assertEqual(self.offences({
            "common/base/a.h": self.header("#include <vector>\n"),
            "broker/core/b.cc": '#include "common/base/a.h"\nint retry;  // try, throw\n',
            "worker/model/c.cc": '#include <torch/torch.h>\n#include "worker/model/d.h"\n',
            "worker/model/d.h": self.header(),
            "tests/unit/base/a_test.cc": '#include <gtest/gtest.h>\n#include "common/base/a.h"\n',
            "broker/core/main.cc": 'const char* kText = "{ throw";\nint main() { return 0; }\n',
        }), [])

    def test_upward_includes(self):
        files = {"broker/core/b.h": self.header(), "worker/text/t.h": self.header(),
                 "common/protocol/p.h": self.header(), "tests/t.h": self.header()}
        for path, included in (("common/base/a.cc", "broker/core/b.h"),
                               ("common/base/a.cc", "common/protocol/p.h"),
                               ("kernels/a.cu", "common/protocol/p.h"),
                               ("broker/core/a.cc", "worker/text/t.h"),
                               ("worker/text/a.cc", "broker/core/b.h")):
            self.assert_found("may not include",
                              files | {path: f'#include "{included}"\n'})
        self.assert_found("nothing includes tests",
                          files | {"broker/core/a.cc": '#include "tests/t.h"\n'})

    def test_include_cycle(self):
        self.assert_found("include cycle", {
            "common/base/a.h": self.header('#include "common/base/b.h"\n'),
            "common/base/b.h": self.header('#include "common/base/a.h"\n')})

    def test_includes_start_at_the_root(self):
        self.assert_found("no path from the root",
                          {"common/base/a.h": self.header('#include "b.h"\n')})

    def test_homes_of_libraries(self):
        for path, header in (("worker/engine/a.cc", "ATen/ATen.h"),
                             ("worker/text/a.cc", "torch/torch.h"),
                             ("broker/supervisor/a.cc", "zmq.hpp"),
                             ("broker/core/a.cc", "nlohmann/json.hpp"),
                             ("common/base/a.cc", "toml++/toml.h"),
                             ("worker/engine/a.cc", "cuda_runtime.h")):
            self.assert_found("is at home in", {path: f"#include <{header}>\n"})

    def test_lengths(self):
        self.assert_found("101 columns", {"common/base/a.cc": "// " + "x" * 98 + "\n"})
        self.assert_found("more than 500 lines", {"common/base/a.cc": "\n" * 501})
        self.assert_found("main() has 42 lines", {"broker/core/main.cc": MAIN})
        self.assertEqual(self.offences({"common/base/a.cc": "// " + "ä" * 97 + "\n"}), [])

    def test_long_functions(self):
        body = "  f();\n" * 70
        self.assert_found("b() has 72 lines", {
            "common/base/a.cc":
                "namespace n {\nvoid A::b(int x,\n  int y) const {\n" + body + "}\n}\n"})
        self.assert_found("c() has 72 lines", {
            "common/base/a.cc": "class A : public B {\n  int c() {\n" + body + "}\n};\n"})
        self.assertEqual(self.offences({
            "common/base/a.cc": "struct A {\n" + "  int x = 0;\n" * 80 + "};\n"
                                "const int k[] = {\n" + "  1,\n" * 80 + "};\n"}), [])

    def test_exceptions(self):
        for word in ("throw 1;", "try {", "} catch (...) {"):
            self.assert_found("only in an adapter", {"broker/core/a.cc": f"  {word}\n"})

    def test_words(self):
        for text in ("TODO later", "see issue 12", "last session", "/home/me/x", "http://a.b/c"):
            self.assert_found(":1: \"", {"common/base/a.cc": f"// {text}\n"})
            self.assert_found(":2: \"", {"common/base/README.md": f"# A\n{text}\n"},
                              readmes=False)

    def test_crash_points(self):
        table = "tests/crash_points/README.md"
        source = 'void f() {\n  FACET_CRASH_POINT("ring.here");\n}\n'
        row = {table: "`elsewhere.named`\n| a step | `ring.here` |\n"}
        self.assertEqual(self.offences({"common/shm/a.cc": source} | row), [])
        self.assert_found("a.cc:2: crash point ring.here is not in",
                          {"common/shm/a.cc": source, table: "`ring.here`\n"})
        self.assert_found("README.md:2: no program has crash point ring.here", row)
        self.assert_found("b.cc:2: crash point ring.here is in common/shm/a.cc, too",
                          {"common/shm/a.cc": source, "common/shm/b.cc": source} | row)

    def test_files(self):
        self.assert_found("no #pragma once", {"common/base/a.h": "int a;\n"})
        self.assert_found("lower_snake_case", {"common/base/Aa.cc": "int a;\n"})
        self.assert_found("no README.md", {"common/base/a.cc": "int a;\n"}, readmes=False)
        self.assert_found("does not know", {"common/extra/a.cc": "int a;\n"})
        self.assert_found("a tab", {"common/base/a.cc": "\tint a;\n"})
        self.assert_found("blanks at the end", {"common/base/a.cc": "int a; \n"})
        self.assert_found("not UTF-8", {"common/base/a.cc": b"// \xff\n"})


if __name__ == "__main__":
    unittest.main()
