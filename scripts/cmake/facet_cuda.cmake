# Says which CUDA compiler there is. Nothing needs one: kernels/ is built only where it is found.
find_program(FACET_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)

if(NOT FACET_NVCC)
  message(STATUS "CUDA: nvcc not found, building without GPU code")
else()
  execute_process(COMMAND ${FACET_NVCC} --version OUTPUT_VARIABLE nvcc_text ERROR_QUIET)
  string(REGEX MATCH "release [0-9.]+" nvcc_release "${nvcc_text}")
  message(STATUS "CUDA: nvcc ${nvcc_release}")
  # Of nvcc itself: where links to it lie, nothing else of the toolkit need be.
  get_filename_component(FACET_CUDA_TOOLKIT ${FACET_NVCC} REALPATH)
  get_filename_component(FACET_CUDA_TOOLKIT ${FACET_CUDA_TOOLKIT} DIRECTORY)
  get_filename_component(FACET_CUDA_TOOLKIT ${FACET_CUDA_TOOLKIT} DIRECTORY)
endif()

# facet_cuda_library(name SOURCES...): a static library of .cu and .cc files. By custom commands,
# since CMake 3.25 does not know C++20 for nvcc 13. One machine code for each architecture served:
# A100, RTX 3090, RTX 4090, H100 and H200. Sources after HOPPER are for the last alone, with what no
# other GPU has; those after ALL for all again.
set(FACET_CUDA_ARCHITECTURES 80 86 89 90 CACHE STRING "compute capabilities to build for")
function(facet_cuda_library name)
  # Compressed: a seventh of the size, taken apart when a kernel is loaded.
  set(flags -std=c++20 -O3 -lineinfo --compress-mode=size --threads 1 -Xcompiler=-fPIC,-Wall,-Wextra
      --expt-relaxed-constexpr --expt-extended-lambda -I${PROJECT_SOURCE_DIR})
  set(all_code)
  foreach(architecture ${FACET_CUDA_ARCHITECTURES})
    list(APPEND all_code -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  set(code ${all_code})
  set(sources)
  foreach(source ${ARGN})
    if(source STREQUAL "HOPPER")
      set(code -gencode arch=compute_90a,code=sm_90a)
      continue()
    elseif(source STREQUAL "ALL")
      set(code ${all_code})
      continue()
    endif()
    if(NOT source MATCHES "\\.cu$")
      list(APPEND sources ${source})
      continue()
    endif()
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${source}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -E env CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
        ${FACET_CCACHE} ${FACET_NVCC} ${flags} ${code} -MD -MF ${object}.d
        -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPFILE ${object}.d
      COMMENT "nvcc ${source}" VERBATIM)
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    list(APPEND sources ${object})
  endforeach()
  add_library(${name} STATIC ${sources})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${name} SYSTEM PUBLIC ${FACET_CUDA_TOOLKIT}/include)
  # The static runtime: no program needs a library of the toolkit at run time.
  target_link_libraries(${name} PUBLIC facet_flags
    ${FACET_CUDA_TOOLKIT}/lib64/libcudart_static.a Threads::Threads rt dl)
endfunction()
