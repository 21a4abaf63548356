# How every target is compiled. facet_library() and facet_program() are the only ways to make one.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS ON)  # FACET_TRY is a GNU statement expression
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
# Line tables only: full debug info doubles link time on two cores.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")  # what the sanitizer presets use; -O0 makes tests crawl

# FACET_CACHE is where scripts/setup.sh puts what does not come from Debian.
set(FACET_CACHE_DIR $ENV{FACET_CACHE})
if(NOT FACET_CACHE_DIR)
  set(FACET_CACHE_DIR $ENV{HOME}/.cache/facet)
endif()

find_program(FACET_CCACHE ccache)
if(FACET_CCACHE)
  # The sloppiness is what precompiled headers need; paths are taken relative to the checkout, so
  # that two checkouts share results.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${FACET_CCACHE})
else()
  message(STATUS "ccache: not found; every build compiles everything")
endif()

set(FACET_SANITIZE "" CACHE STRING "sanitizers to build with: address,undefined or thread")
option(FACET_WITH_TORCH "build facet-worker on libtorch" ON)
option(FACET_FUZZ "build the fuzz targets of tests/fuzz (needs clang)" OFF)

add_library(facet_flags INTERFACE)
target_include_directories(facet_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(facet_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Werror
  -Wno-error=deprecated-declarations  # of the packaged libraries
  -Wno-missing-field-initializers     # designated initializers name what differs from the default
  -Wno-restrict                       # false with gcc 12 for "text" + std::string (its bug 105651)
  -fno-omit-frame-pointer)
if(FACET_SANITIZE)
  target_compile_options(facet_flags INTERFACE
    -fsanitize=${FACET_SANITIZE} -fno-sanitize-recover=all
    -Wno-maybe-uninitialized)         # false with gcc 12 under -fsanitize
  target_link_options(facet_flags INTERFACE -fsanitize=${FACET_SANITIZE})
  if(FACET_SANITIZE STREQUAL thread)
    # It knows no fences. The one there is (ring_reader.cc) orders reads of what other processes
    # wrote, which it does not see either.
    target_compile_options(facet_flags INTERFACE -Wno-tsan)
  endif()
endif()
if(FACET_SANITIZE MATCHES "undefined" AND NOT FACET_FUZZ)
  add_library(facet_report_file STATIC ${PROJECT_SOURCE_DIR}/tests/sanitizers/report_file.cc)
  target_link_libraries(facet_flags INTERFACE facet_report_file)
  target_link_options(facet_flags INTERFACE -Wl,-u,__ubsan_on_report)
endif()
if(FACET_FUZZ)
  # What clang warns of and gcc does not must not stop a fuzz build.
  target_compile_options(facet_flags INTERFACE -fsanitize=fuzzer-no-link
    -Wno-error -Wno-unknown-warning-option)
endif()

# For rooms where sizes, indices and counts meet: a silent narrowing there is a defect.
set(FACET_STRICT_CONVERSIONS -Wconversion -Wno-sign-conversion)

# facet_library(name SOURCES... [LINK lib...]): a static library, named facet_<room>.
function(facet_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC facet_flags ${ARG_LINK})
endfunction()

# facet_program(name main.cc [LINK lib...]): an executable in build/<preset>/bin.
# The target facet_programs is all of them, without tests.
add_custom_target(facet_programs)
function(facet_program name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE facet_flags ${ARG_LINK})
  add_dependencies(facet_programs ${name})
endfunction()

# facet_rooms([EXCEPT room...]): adds every subfolder that has a CMakeLists.txt. Targets are linked
# by name, so the order does not matter.
function(facet_rooms)
  cmake_parse_arguments(ARG "" "" "EXCEPT" ${ARGN})
  file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt)
  foreach(list_file ${found})
    get_filename_component(folder ${list_file} DIRECTORY)
    get_filename_component(room ${folder} NAME)
    if(NOT room IN_LIST ARG_EXCEPT)
      add_subdirectory(${folder})
    endif()
  endforeach()
endfunction()
