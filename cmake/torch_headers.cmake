# Sets torch_dir, the folder of Python's torch, for its headers; and torch_missing, true if Python has no torch.
find_package(Python COMPONENTS Interpreter)
execute_process(COMMAND "${Python_EXECUTABLE}" -c
  "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing ERROR_QUIET)
