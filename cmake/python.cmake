# The torch ops (LibTorch stable ABI) and the Python module (pybind11).
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
set(PYBIND11_FINDPYTHON ON)
execute_process(COMMAND "${Python_EXECUTABLE}" -c "import pybind11; print(pybind11.get_cmake_dir())"
  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
find_package(pybind11 CONFIG REQUIRED)

# Only torch's headers and libtorch_cpu: find_package(Torch) would add every library and flag torch was built with.
execute_process(COMMAND "${Python_EXECUTABLE}" -c
  "import os, torch; print(os.path.dirname(torch.__file__), torch.__version__, torch.version.cuda or '', sep=';')"
  OUTPUT_VARIABLE torch_facts OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing ERROR_VARIABLE torch_error)
if(torch_missing)
  message(FATAL_ERROR "Expected torch ${oldest_torch} or newer in ${Python_EXECUTABLE}, got:\n${torch_error}")
endif()
list(GET torch_facts 0 torch_dir)
list(GET torch_facts 1 torch_version)
list(GET torch_facts 2 torch_cuda)
if(torch_version VERSION_LESS oldest_torch)
  message(FATAL_ERROR "Expected torch ${oldest_torch} or newer in ${Python_EXECUTABLE}, got ${torch_version} in ${torch_dir}")
endif()
message(STATUS "torch ${torch_version} (CUDA: ${torch_cuda}) in ${torch_dir}")

add_library(lsif_ops MODULE csrc/ops/checks.cpp csrc/ops/catalog.cpp csrc/ops/catalog_ops.cpp csrc/ops/cpu_catalog.cpp csrc/ops/encode_op.cpp
  csrc/ops/encoder_ops.cpp csrc/ops/encoding.cpp csrc/ops/kept_ops.cpp)
set_target_properties(lsif_ops PROPERTIES PREFIX "" OUTPUT_NAME "_ops" SUFFIX ".so")
target_compile_definitions(lsif_ops PRIVATE TORCH_TARGET_VERSION=${torch_target_version})
target_compile_options(lsif_ops PRIVATE "-ffile-prefix-map=${torch_dir}=torch")
target_include_directories(lsif_ops SYSTEM PRIVATE "${torch_dir}/include")
target_link_libraries(lsif_ops PRIVATE lsif_engine "${torch_dir}/lib/libtorch_cpu.so")

pybind11_add_module(_core
  csrc/bindings/catalog_path.cpp
  csrc/bindings/id_rows.cpp
  csrc/bindings/module.cpp
  csrc/bindings/ragged_union.cpp
  csrc/bindings/request_path.cpp
)
target_link_libraries(_core PRIVATE lsif_engine)
# scikit-build-core knows the version, CMake on its own does not.
file(STRINGS "${CMAKE_SOURCE_DIR}/pyproject.toml" version REGEX "^version = ")
string(REGEX REPLACE ".*\"(.+)\".*" "\\1" version "${version}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/pyproject.toml")
target_compile_definitions(_core PRIVATE LSIF_VERSION="${version}" LSIF_COMPILER="${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
  LSIF_BUILD_TYPE="${CMAKE_BUILD_TYPE}" LSIF_TORCH_VERSION="${torch_version}")

# liblsif.so is in the same folder, both in the build tree and where it is installed.
set_target_properties(lsif_ops _core PROPERTIES INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
install(TARGETS lsif_engine lsif_ops _core LIBRARY DESTINATION lsif_sdk)
