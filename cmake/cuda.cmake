# The CUDA kernels (no torch) and their torch ops, in a separate library that is loaded only if torch is a CUDA build
# (python/lsif_sdk/ops.py). Must be included after python.cmake.
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

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
find_package(CUDAToolkit REQUIRED)

set(cuda_kernels embedding layer_norm linear linear_bf16 attention attention_bf16 interest_pooling interest_fusion
  histories encode_users encode_users_many user_states score_topk)
list(TRANSFORM cuda_kernels REPLACE "(.+)" "csrc/kernels/cuda/\\1.cu")
add_library(lsif_kernels_cuda STATIC ${cuda_kernels} csrc/engine/cuda_encode.cpp)
target_include_directories(lsif_kernels_cuda PUBLIC csrc)
target_link_libraries(lsif_kernels_cuda PUBLIC CUDA::cudart_static)
# Device code also calls the constexpr size functions of the shared headers (kernels/score_topk.h).
target_compile_options(lsif_kernels_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow;--expt-relaxed-constexpr>")
# No FMA contraction, as on the CPU (kernels.cmake), so that float64 scores round alike.
set_source_files_properties(csrc/kernels/cuda/score_topk.cu PROPERTIES COMPILE_OPTIONS -fmad=false)

set(cuda_ops csrc/ops/cuda_ops.cpp csrc/ops/cuda_catalog_ops.cpp csrc/ops/cuda_encode_op.cpp
  csrc/ops/cuda_kept_ops.cpp)
# USE_CUDA enables the CUDA part of torch's stable ABI headers.
set_source_files_properties(${cuda_ops} PROPERTIES COMPILE_DEFINITIONS USE_CUDA)
if(LSIF_PYTHON)
  set(torch_cuda_library "${torch_dir}/lib/libtorch_cuda.so")
  if(NOT torch_cuda)
    # A CPU build of torch has the same headers but not this library. A stand-in with its name, which defines the one
    # symbol the ops need, takes its place at link time. It is not installed.
    file(WRITE "${CMAKE_BINARY_DIR}/torch_cuda_stand_in.cpp"
      "extern \"C\" __attribute__((visibility(\"default\"))) int aoti_torch_get_current_cuda_stream(int, void**) { return 1; }\n")
    add_library(torch_cuda_stand_in SHARED "${CMAKE_BINARY_DIR}/torch_cuda_stand_in.cpp")
    set_target_properties(torch_cuda_stand_in PROPERTIES OUTPUT_NAME torch_cuda)
    set(torch_cuda_library torch_cuda_stand_in)
  endif()
  add_library(lsif_ops_cuda MODULE csrc/ops/catalog.cpp csrc/ops/checks.cpp csrc/ops/encoding.cpp ${cuda_ops})
  set_target_properties(lsif_ops_cuda PROPERTIES PREFIX "" OUTPUT_NAME "_ops_cuda" SUFFIX ".so" INSTALL_RPATH "$ORIGIN"
    BUILD_WITH_INSTALL_RPATH ON)
  target_compile_options(lsif_ops_cuda PRIVATE "-ffile-prefix-map=${torch_dir}=torch")
  target_compile_definitions(lsif_ops_cuda PRIVATE TORCH_TARGET_VERSION=${torch_target_version})
  target_include_directories(lsif_ops_cuda SYSTEM PRIVATE "${torch_dir}/include" ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(lsif_ops_cuda PRIVATE lsif_engine lsif_kernels_cuda "${torch_dir}/lib/libtorch_cpu.so"
    ${torch_cuda_library})
  target_compile_definitions(_core PRIVATE
    LSIF_CUDA_VERSION="${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
  install(TARGETS lsif_ops_cuda LIBRARY DESTINATION lsif_sdk)
  return()
endif()

# `make cuda-compile` also compiles the ops, because every build of torch has the headers they need. Nothing is linked.
include(cmake/torch_headers.cmake)
if(torch_missing)
  message(STATUS "No torch for ${Python_EXECUTABLE}: the CUDA ops are not compiled")
else()
  message(STATUS "The CUDA ops are compiled with the headers in ${torch_dir}")
  add_library(lsif_cuda_ops OBJECT ${cuda_ops})
  target_compile_definitions(lsif_cuda_ops PRIVATE TORCH_TARGET_VERSION=${torch_target_version})
  target_include_directories(lsif_cuda_ops PRIVATE csrc)
  target_include_directories(lsif_cuda_ops SYSTEM PRIVATE "${torch_dir}/include" ${CUDAToolkit_INCLUDE_DIRS})
  add_dependencies(lsif_kernels_cuda lsif_cuda_ops)
endif()
