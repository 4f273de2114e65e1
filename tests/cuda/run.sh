#!/bin/sh
# Runs the gpu_test_* in a folder, and the small ones under compute-sanitizer, which may make them a hundred times
# slower: several at a time, each for at most so many seconds. Says in a table how it went. For `make test-cuda`.
#   run.sh FOLDER [PROCESSES]
if [ "$1" = --one ]; then  # FOLDER SECONDS NAME COMMAND ...
  folder=$2 seconds=$3 name=$4
  shift 4
  start=$(date +%s)
  timeout -k 5 "$seconds" "$@" > "$folder/$name.log" 2>&1
  case $? in 0) result=ok ;; 124 | 137) result=TIMEOUT ;; *) result=FAILED ;; esac
  printf '%-44s %-7s %4s s\n' "$name" "$result" $(($(date +%s) - start)) | tee "$folder/$name.result"
  exit 0
fi
folder=$1 processes=${2:-8}
rm -f "$folder"/*.result
{
  # Those with the most launches first: the last one to end decides how long all take.
  for test in "$folder"/gpu_test_linear "$folder"/gpu_test_score_topk_bounds "$folder"/gpu_test_*; do
    case $test in *.log) ;; *) echo "300 $(basename "$test") $test" ;; esac
  done | awk '!listed[$2]++'
  if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck synccheck; do
      check="compute-sanitizer --tool $tool --error-exitcode 1 $folder/gpu_test"
      for test in launches layer_norm interest_fusion cuda_encode user_states; do
        echo "240 $tool.$test ${check}_$test"
      done
      echo "240 $tool.score_topk ${check}_score_topk weight_zero"
    done
  fi
} | xargs -P "$processes" -L 1 sh "$0" --one "$folder"
command -v compute-sanitizer > /dev/null || echo "compute-sanitizer is not installed: not run"
ls "$folder"/*.result > /dev/null || exit 1
failed=$(grep -lv ' ok ' "$folder"/*.result)
for result in $failed; do
  echo "== $(cat "$result")"
  tail -n 20 "${result%.result}.log"
done
echo
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cat "$folder"/*.result
[ -z "$failed" ]
