#!/bin/sh
# Runs the gpu_test_* in a folder, each for at most so many seconds, and says in a table how it went; then the small ones
# under compute-sanitizer, which may make them a hundred times slower. For `make test-cuda`.
folder=$1
seconds=60
table=$(mktemp)
failed=0

run() {  # name, command ...
  name=$1
  shift
  start=$(date +%s)
  timeout $seconds "$@" > "$folder/$name.log" 2>&1
  case $? in 0) result=ok ;; 124) result=TIMEOUT failed=1 ;; *) result=FAILED failed=1 ;; esac
  [ $result = ok ] || tail -n 20 "$folder/$name.log"
  printf '%-44s %-7s %4s s\n' "$name" "$result" $(($(date +%s) - start)) | tee -a "$table"
}

for test in "$folder"/gpu_test_*; do
  case $test in *.log) ;; *) run "$(basename "$test")" "$test" ;; esac
done
if command -v compute-sanitizer > /dev/null; then
  seconds=300
  for tool in memcheck racecheck synccheck; do
    for test in launches layer_norm interest_fusion cuda_encode user_states; do
      run "$tool $test" compute-sanitizer --tool $tool --error-exitcode 1 "$folder/gpu_test_$test"
    done
    run "$tool score_topk" compute-sanitizer --tool $tool --error-exitcode 1 "$folder/gpu_test_score_topk" weight_zero
  done
else
  echo "compute-sanitizer is not installed: not run"
fi
echo
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cat "$table"
rm "$table"
exit $failed
