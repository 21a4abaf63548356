# How every target is compiled. facet_library() and facet_program() are the only ways to make one.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS ON)  # FACET_TRY is a GNU statement expression
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
if(CMAKE_BUILD_TYPE STREQUAL RelWithDebInfo)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")  # full debug info doubles link time on two cores
endif()

find_program(FACET_CCACHE ccache)
if(FACET_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${FACET_CCACHE})
endif()

set(FACET_SANITIZE "" CACHE STRING "sanitizers to build with: address,undefined or thread")
option(FACET_WITH_TORCH "build facet-worker on libtorch" ON)

add_library(facet_flags INTERFACE)
target_include_directories(facet_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(facet_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Werror -Wno-error=deprecated-declarations
  -Wno-missing-field-initializers -fno-omit-frame-pointer)
if(FACET_SANITIZE)
  target_compile_options(facet_flags INTERFACE -fsanitize=${FACET_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(facet_flags INTERFACE -fsanitize=${FACET_SANITIZE})
endif()

# facet_library(name SOURCES... [LINK lib...]): a static library, named facet_<room>.
function(facet_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC facet_flags ${ARG_LINK})
endfunction()

# facet_program(name main.cc [LINK lib...]): an executable in build/<preset>/bin.
function(facet_program name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE facet_flags ${ARG_LINK})
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
