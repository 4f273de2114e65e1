# The CUDA side: kernels (no torch) and, where torch is a CUDA build, their torch ops. Comes after python.cmake.
include(CheckLanguage)
set(lsif_cuda_default OFF)
if(LSIF_PYTHON AND torch_cuda)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(lsif_cuda_default ON)
  endif()
endif()
option(LSIF_CUDA "Build the CUDA kernels and ops" ${lsif_cuda_default})
if(NOT LSIF_CUDA)
  return()
endif()
if(LSIF_PYTHON AND NOT torch_cuda)
  message(FATAL_ERROR "LSIF_CUDA: expected a CUDA build of torch, got torch ${torch_version}; "
    "-DLSIF_PYTHON=OFF compiles the kernels without torch")
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
find_package(CUDAToolkit REQUIRED)

set(cuda_kernels embedding layer_norm linear linear_bf16 attention attention_bf16 interest_pooling interest_fusion
  histories encode_users user_states score_topk)
list(TRANSFORM cuda_kernels REPLACE "(.+)" "csrc/kernels/cuda/\\1.cu")
add_library(lsif_kernels_cuda STATIC ${cuda_kernels} csrc/engine/cuda_encode.cpp)
target_include_directories(lsif_kernels_cuda PUBLIC csrc)
target_link_libraries(lsif_kernels_cuda PUBLIC CUDA::cudart_static)
# Sizes that the contracts' headers define (kernels/score_topk.h) are computed on the device, too.
target_compile_options(lsif_kernels_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow;--expt-relaxed-constexpr>")
# Float64 scores round as on the CPU, which does not contract either.
set_source_files_properties(csrc/kernels/cuda/score_topk.cu PROPERTIES COMPILE_OPTIONS -fmad=false)

set(cuda_ops csrc/ops/cuda_ops.cpp csrc/ops/cuda_catalog_ops.cpp csrc/ops/cuda_encode_op.cpp)
# Shows the CUDA part of torch's stable interface.
set_source_files_properties(${cuda_ops} PROPERTIES COMPILE_DEFINITIONS USE_CUDA)
if(LSIF_PYTHON)
  target_sources(lsif_ops PRIVATE ${cuda_ops})
  target_link_libraries(lsif_ops PRIVATE lsif_kernels_cuda "${torch_dir}/lib/libtorch_cuda.so")
  return()
endif()

# `make cuda-compile` also compiles the ops: the headers they need come with every build of torch. Nothing is linked.
find_package(Python COMPONENTS Interpreter)
execute_process(COMMAND "${Python_EXECUTABLE}" -c
  "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing ERROR_QUIET)
if(torch_missing)
  message(STATUS "No torch for ${Python_EXECUTABLE}: the CUDA ops are not compiled")
else()
  message(STATUS "The CUDA ops are compiled with the headers in ${torch_dir}")
  add_library(lsif_cuda_ops OBJECT ${cuda_ops})
  target_compile_definitions(lsif_cuda_ops PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
  target_include_directories(lsif_cuda_ops PRIVATE csrc)
  target_include_directories(lsif_cuda_ops SYSTEM PRIVATE "${torch_dir}/include" ${CUDAToolkit_INCLUDE_DIRS})
  add_dependencies(lsif_kernels_cuda lsif_cuda_ops)
endif()
