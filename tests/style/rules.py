"""What the style test holds the tree to. Changing the architecture means changing this file."""

# Bottom to top. A room includes itself, the rooms named here, and nothing else of the tree.
# Rooms of one line see each other only where they say so; there is no way to write a cycle,
# because a room may only name rooms that stand above it in this list.
ROOMS = {
    "kernels": [],
    "common/base": [],
    "common/protocol": ["common/base"],
    "common/config": ["common/base", "common/protocol"],
    "common/gpu": ["common/base", "common/config"],
    "common/log": ["common/base", "common/config"],
    "common/shm": ["common/base", "common/protocol"],
    "common/control": ["common/base", "common/shm"],
    "common/client": ["common/base", "common/log", "common/protocol", "common/config"],
    "broker/core": ["common"],
    "broker/decoder": ["common"],
    "broker/service": ["common", "broker/core", "broker/decoder"],
    "broker/supervisor": ["common"],
    "broker/cli": ["common"],
    "worker/text": ["common"],
    "worker/image": ["common"],
    "worker/checkpoint": ["common"],
    "worker/engine": ["common", "worker/text", "worker/image", "worker/checkpoint"],
    "worker/service": ["common", "worker/engine", "worker/text", "worker/image",
                       "worker/checkpoint"],
    "worker/echo": ["common", "worker/engine", "worker/service"],
    "worker/model": ["common", "kernels", "worker/text", "worker/image", "worker/checkpoint",
                     "worker/engine", "worker/service"],
}

# A third-party header is known to these rooms only. Prefixes of what stands in <>.
HOMES = {
    "torch/": ["worker/model"],
    "ATen/": ["worker/model"],
    "c10/": ["worker/model"],
    "cuda": ["kernels", "worker/model"],
    "cublas": ["worker/model"],
    "zmq": ["broker/service", "worker/service", "common/client"],
    "boost/interprocess/": ["common/shm"],
    "boost/asio": ["broker/service"],
    "msgpack": ["common/protocol"],
    "toml++/": ["common/config"],
    "CLI/": ["broker/cli", "broker/service", "broker/supervisor", "broker/decoder",
             "worker/service", "worker/echo", "worker/model"],
    "nlohmann/": ["worker/checkpoint", "worker/text", "worker/image", "worker/service",
                  "worker/model", "broker/service", "broker/cli"],
    "spdlog/sinks/": ["common/log"],
    "spdlog/": ["common/log", "broker/service", "broker/supervisor", "broker/decoder",
                "worker/service"],
    "tl/expected": ["common/base"],
    "jpeglib": ["broker/decoder"],
    "jerror": ["broker/decoder"],
    "turbojpeg": ["broker/decoder"],
    "png": ["broker/decoder"],
    "webp/": ["broker/decoder"],
    "libexif/": ["broker/decoder"],
    "seccomp": ["broker/decoder"],
    "systemd/": ["broker/supervisor"],
    "pcre2": ["worker/text"],
    "utf8proc": ["worker/text", "common/protocol"],
    "prometheus/": ["broker/service"],
    "gtest/": ["tests"],
    "gmock/": ["tests"],
    "benchmark/": ["tests"],
}

# The only files where an exception may be caught, each for a library that throws one.
EXCEPTION_ADAPTERS = {
    "broker/cli/batch_items.cc": "nlohmann/json",
    "broker/cli/cli.cc": "CLI11, and nlohmann/json as a last resort",
    "broker/cli/daemon_session.cc": "nlohmann/json",
    "broker/cli/status_table.cc": "nlohmann/json",
    "broker/decoder/decode_image.cc": "bad_alloc under the child's memory limit",
    "broker/service/router.cc": "cppzmq",
    "broker/service/run_broker.cc": "CLI11",
    "broker/supervisor/facetd_options.cc": "CLI11",
    "common/client/client.cc": "cppzmq, caught at the door of the library",
    "common/client/link.cc": "cppzmq",
    "common/log/log.cc": "spdlog, when its file cannot be opened",
    "common/protocol/wire_parse.cc": "msgpack",
    "common/shm/shared_region.cc": "Boost.Interprocess",
    "worker/model/cuda/cuda_error.cc": "thrown beside libtorch's, caught by torch_guard.h",
    "worker/model/plan_mode.cc": "CLI11",
    "worker/model/torch_guard.h": "libtorch",
    "worker/service/arguments.cc": "CLI11",
    "worker/service/broker_link.cc": "cppzmq",
}

# Pattern -> what to write instead. Looked for in code, comments and pages alike.
BANNED_WORDS = {
    r"\bTODO\b|\bFIXME\b|\bXXX\b|\bHACK\b": "do it, or describe it as a limit in the README",
    r"\b[Ii]ssue #?\d|\([Ii]ssue|#\d+\b(?=\))": "say the reason, not a number in a tracker",
    r"\b(this|previous|next|last|earlier|later) sessions?\b":
        "say what is so, not when it was made",
    r"(?<![\w.])/(home|root|work|Users)/": "a path of one machine",
    # Loopback, the names reserved for examples, and XML name spaces, which are no addresses.
    r"\b(ftp|https?)://(?!127\.0\.0\.1|localhost|\[::1\]|ns\.|example\.)":
        "name the thing, not an address",
}

# Every FACET_CRASH_POINT stands in a row of this table, and every point of the table in a program.
CRASH_POINT_TABLE = "tests/crash_points/README.md"

MAX_LINE_COLUMNS = 100
MAX_FILE_LINES = 500
MAX_MAIN_LINES = 40
MAX_FUNCTION_LINES = 70

# Functions that may be longer, with their length, which may only shrink: "path:name": lines.
LONG_FUNCTIONS = {
}
