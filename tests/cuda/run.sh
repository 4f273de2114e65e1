#!/bin/sh
# Runs the gpu_test_* in FOLDER, then the small ones under compute-sanitizer, which may make them a hundred times
# slower. Several run at a time, each with a time limit; also Python's tests, if PYTHON has a CUDA build of torch,
# pytest and hypothesis. Prints a table of the results. For `make test-cuda`.
#   run.sh FOLDER PYTHON [PROCESSES]
if [ "$1" = --one ]; then  # FOLDER SECONDS NAME COMMAND ...
  folder=$2 seconds=$3 name=$4
  shift 4
  start=$(date +%s)
  timeout -k 5 "$seconds" "$@" > "$folder/$name.log" 2>&1
  case $? in 0) result=ok ;; 124 | 137) result=TIMEOUT ;; *) result=FAILED ;; esac
  printf '%-44s %-7s %4s s\n' "$name" "$result" $(($(date +%s) - start)) | tee "$folder/$name.result"
  exit 0
fi
folder=$1 python=$2 processes=${3:-8}
rm -f "$folder"/*.result "$folder"/*.log
run() { xargs -P "$processes" -L 1 sh "$0" --one "$folder"; }

python_left_out=
if "$python" -c 'import pytest, hypothesis, torch; assert torch.version.cuda' 2> /dev/null; then
  sh "$0" --one "$folder" 480 python sh "$(dirname "$0")/python.sh" "$folder/../.." "$python" &
else
  python_left_out="Python's tests: $python has no torch for CUDA, no pytest or no hypothesis: not run"
fi

# Tests with the most launches start first: the last one to end decides the total time. The sanitizer runs later, as
# processes take turns on a GPU, and these tests wait for it tens of thousands of times.
for test in "$folder"/gpu_test_linear "$folder"/gpu_test_score_topk_bounds "$folder"/gpu_test_*; do
  echo "300 $(basename "$test") $test"
done | awk '!listed[$2]++' | run

sanitizer_left_out=
if ! command -v compute-sanitizer > /dev/null; then
  sanitizer_left_out="compute-sanitizer is not installed: not run"
elif compute-sanitizer "$folder/gpu_test_launches" pack_linear 2>&1 | grep -q "Device not supported"; then
  sanitizer_left_out="compute-sanitizer does not know this device: not run"
else
  for tool in racecheck memcheck synccheck; do
    check="compute-sanitizer --tool $tool --error-exitcode 1 $folder/gpu_test"
    encode= states=
    # For racecheck, launches cost most, and it only checks shared memory: no tests with a launch per step or per user.
    [ $tool = racecheck ] && encode="encode_agrees how_many" states="appending so_it_does all_ways depends_on_no_other"
    # Not quoted: a space at the end of a line would make xargs join it with the next line.
    echo 240 $tool.cuda_encode ${check}_cuda_encode $encode
    echo 240 $tool.user_states ${check}_user_states $states
    for test in launches layer_norm interest_fusion; do
      echo "240 $tool.$test ${check}_$test"
    done
    echo "240 $tool.score_topk ${check}_score_topk weight_zero"
  done | run
fi
wait
ls "$folder"/*.result > /dev/null || exit 1
failed=$(grep -lv ' ok ' "$folder"/*.result)
for result in $failed; do
  echo "== $(cat "$result")"
  tail -n 20 "${result%.result}.log"
done
echo
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cat "$folder"/*.result
for left_out in "$python_left_out" "$sanitizer_left_out"; do [ -z "$left_out" ] || echo "$left_out"; done
[ ! -e "$folder/python.log" ] || tail -n 1 "$folder/python.log"
[ -z "$failed" ]
