# libtorch is the pip wheel of torch: only libtorch_cpu and libc10 are linked, so that neither nvcc
# nor the CUDA toolkit is needed. find_package(Torch) insists on both.
set(FACET_TORCH_DIR "" CACHE PATH "folder of the torch wheel (holds include/ and lib/)")
if(NOT FACET_TORCH_DIR)
  file(GLOB FACET_TORCH_FOUND $ENV{HOME}/.cache/facet/venv/lib/python3*/site-packages/torch
       $ENV{HOME}/.cache/facet/ref/lib/python3*/site-packages/torch)
  if(FACET_TORCH_FOUND)
    list(GET FACET_TORCH_FOUND 0 FACET_TORCH_PICK)
    set(FACET_TORCH_DIR ${FACET_TORCH_PICK} CACHE PATH "" FORCE)
  endif()
endif()

if(FACET_WITH_TORCH AND EXISTS ${FACET_TORCH_DIR}/lib/libtorch_cpu.so)
  add_library(facet_torch_cpu INTERFACE)
  target_include_directories(facet_torch_cpu SYSTEM INTERFACE
    ${FACET_TORCH_DIR}/include ${FACET_TORCH_DIR}/include/torch/csrc/api/include)
  target_link_libraries(facet_torch_cpu INTERFACE
    ${FACET_TORCH_DIR}/lib/libtorch_cpu.so ${FACET_TORCH_DIR}/lib/libc10.so)
  target_link_options(facet_torch_cpu INTERFACE
    -Wl,-rpath,${FACET_TORCH_DIR}/lib -Wl,--allow-shlib-undefined)
  add_library(facet::torch_cpu ALIAS facet_torch_cpu)
  message(STATUS "libtorch: ${FACET_TORCH_DIR} (CPU)")
else()
  message(STATUS "libtorch: not found or switched off; facet-worker is not built")
endif()
