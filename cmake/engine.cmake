# The engine: composition of kernels, threads and scratch memory; no torch, no Python.
find_package(Threads REQUIRED)
add_library(lsif_engine STATIC
  csrc/engine/catalog.cpp
  csrc/engine/encode.cpp
  csrc/engine/excluded.cpp
  csrc/engine/interests.cpp
  csrc/engine/model.cpp
  csrc/engine/offsets.cpp
  csrc/engine/recommend.cpp
  csrc/engine/score_checks.cpp
  csrc/engine/score_topk.cpp
  csrc/engine/thread_pool.cpp
)
target_link_libraries(lsif_engine PUBLIC lsif_kernels Threads::Threads)
