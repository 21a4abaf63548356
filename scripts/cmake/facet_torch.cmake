# libtorch is the pip wheel of torch: only libtorch_cpu and libc10 are linked, so that neither nvcc
# nor the CUDA toolkit is needed. find_package(Torch) insists on both.
set(FACET_TORCH_VERSION 2.11.0)  # the one that scripts/setup.sh fetches
set(FACET_TORCH_DIR "" CACHE PATH "folder of the torch wheel (holds include/ and lib/)")

if(FACET_WITH_TORCH AND NOT EXISTS "${FACET_TORCH_DIR}/lib/libtorch_cpu.so")
  foreach(venv venv ref)
    file(GLOB found ${FACET_CACHE_DIR}/${venv}/lib/python3*/site-packages/torch)
    foreach(folder ${found})
      if(EXISTS ${folder}/lib/libtorch_cpu.so)
        set(FACET_TORCH_DIR ${folder} CACHE PATH "folder of the torch wheel" FORCE)
        break()
      endif()
    endforeach()
    if(EXISTS "${FACET_TORCH_DIR}/lib/libtorch_cpu.so")
      break()
    endif()
  endforeach()
endif()

if(NOT FACET_WITH_TORCH)
  message(STATUS "libtorch: switched off (FACET_WITH_TORCH); facet-worker is not built")
elseif(NOT EXISTS "${FACET_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "libtorch is missing below ${FACET_CACHE_DIR}: run ./scripts/setup.sh, "
    "or give -DFACET_TORCH_DIR=<folder of the torch wheel>, or -DFACET_WITH_TORCH=OFF")
else()
  file(STRINGS ${FACET_TORCH_DIR}/version.py version_line REGEX "^__version__")
  if(NOT version_line MATCHES "'${FACET_TORCH_VERSION}[+']")
    message(FATAL_ERROR "${FACET_TORCH_DIR} holds ${version_line}, wanted ${FACET_TORCH_VERSION}")
  endif()
  add_library(facet_torch_cpu INTERFACE)
  target_include_directories(facet_torch_cpu SYSTEM INTERFACE
    ${FACET_TORCH_DIR}/include ${FACET_TORCH_DIR}/include/torch/csrc/api/include)
  target_link_libraries(facet_torch_cpu INTERFACE
    ${FACET_TORCH_DIR}/lib/libtorch_cpu.so ${FACET_TORCH_DIR}/lib/libc10.so)
  # libtorch's thread pool is OpenMP, of the library in the wheel: found by rpath, under the same
  # name as gcc's. As a flag, since CMake warns of two places when it is given as a file.
  target_compile_options(facet_torch_cpu INTERFACE -fopenmp)
  target_link_options(facet_torch_cpu INTERFACE -fopenmp
    -Wl,-rpath,${FACET_TORCH_DIR}/lib -Wl,--allow-shlib-undefined)
  add_library(facet::torch_cpu ALIAS facet_torch_cpu)
  # The GPU side: the same wheel's libtorch_cuda, and cuBLASLt of the toolkit to link against; at
  # run time the one that libtorch_cuda brings is found first.
  if(FACET_NVCC AND EXISTS "${FACET_TORCH_DIR}/lib/libtorch_cuda.so")
    add_library(facet_torch_cuda INTERFACE)
    target_include_directories(facet_torch_cuda SYSTEM INTERFACE ${FACET_CUDA_TOOLKIT}/include)
    target_link_libraries(facet_torch_cuda INTERFACE ${FACET_TORCH_DIR}/lib/libtorch_cuda.so
      ${FACET_TORCH_DIR}/lib/libc10_cuda.so ${FACET_CUDA_TOOLKIT}/lib64/libcublasLt.so)
    target_link_options(facet_torch_cuda INTERFACE
      -Wl,-rpath,${FACET_TORCH_DIR}/../nvidia/cu13/lib)
    add_library(facet::torch_cuda ALIAS facet_torch_cuda)
  endif()
  message(STATUS "libtorch: ${FACET_TORCH_VERSION} in ${FACET_TORCH_DIR} (CPU)")
endif()
