# liblsif.so: the engine (combines kernels, threads and scratch memory; no torch, no Python) and the CPU kernels. It is
# a shared library, so that the torch ops and the Python module of one process use the same thread pool.
find_package(Threads REQUIRED)
add_library(lsif_engine SHARED
  csrc/engine/append.cpp
  csrc/engine/blocks.cpp
  csrc/engine/cell_coder.cpp
  csrc/engine/clusters.cpp
  csrc/engine/codes.cpp
  csrc/engine/cpu_quota.cpp
  csrc/engine/encode.cpp
  csrc/engine/encoded.cpp
  csrc/engine/excluded.cpp
  csrc/engine/few_rows.cpp
  csrc/engine/float_rows.cpp
  csrc/engine/group_coder.cpp
  csrc/engine/interests.cpp
  csrc/engine/model.cpp
  csrc/engine/model_config.cpp
  csrc/engine/ragged.cpp
  csrc/engine/recommend.cpp
  csrc/engine/repeats.cpp
  csrc/engine/row_order.cpp
  csrc/engine/score_checks.cpp
  csrc/engine/score_topk.cpp
  csrc/engine/scratch.cpp
  csrc/engine/sort_best.cpp
  csrc/engine/thread_pool.cpp
  csrc/engine/topk_batcher.cpp
  csrc/engine/user_state.cpp
)
# Functions declared in the headers are exported; the kernels of the single instruction sets are not.
set_target_properties(lsif_engine lsif_kernels PROPERTIES CXX_VISIBILITY_PRESET default)
set_target_properties(lsif_engine PROPERTIES OUTPUT_NAME lsif)
target_compile_options(lsif_engine PRIVATE -fno-semantic-interposition)
target_include_directories(lsif_engine PUBLIC csrc)
target_compile_definitions(lsif_engine INTERFACE $<TARGET_PROPERTY:lsif_kernels,INTERFACE_COMPILE_DEFINITIONS>)
target_link_libraries(lsif_engine PRIVATE lsif_kernels PUBLIC Threads::Threads)
