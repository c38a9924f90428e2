#!/bin/bash
# All that needs a GPU, in order of worth, for a machine that is lent for minutes at a time. A call works for at most
# SLICE_S seconds and stops between two steps. What it made goes to OUT. Copy OUT/state back to STATE before the next
# call, and the work resumes.
#
#   OUT=out STATE=state scripts/gpu_session.sh [STAGE...]       stages: tests bench agreement train
#
#   tests      the tests marked gpu
#   bench      slots per second of channels and trainings
#   agreement  energy of receivers by NVML, and the errors of all estimators
#   train      the full DeepRx of configs/deeprx-2021.yaml, resumed from STATE; a checkpoint is about 15 MB
set -uo pipefail

out=${OUT:?set OUT to a folder for results}
state=${STATE:-state}
slice_s=${SLICE_S:-540}
config=${CONFIG:-configs/deeprx-2021.yaml}
python=${PYTHON:-python}
stages=("$@")
[[ ${#stages[@]} -eq 0 ]] && stages=(tests bench agreement train)
begin=$SECONDS
mkdir -p "$out/state"
[[ -d $state ]] && cp -r "$state/." "$out/state/"

# run NAME COMMAND...: at most for the time that is left; the log and the exit status go to OUT.
run() {
    local name=$1 left=$((slice_s - (SECONDS - begin)))
    shift
    if ((left < 20)); then
        echo "$name: no time left"
        return
    fi
    echo "$name: at most $left s"
    timeout --signal=INT --kill-after=10 "$left" "$@" >"$out/$name.log" 2>&1
    echo "$name: exit $?" | tee -a "$out/status.txt"
    tail -n 3 "$out/$name.log"
}

bench='
import time, torch
from channels import SlotStream, scenario
from receivers import build

def rate(name, function, count):
    function()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(10):
        function()
    torch.cuda.synchronize()
    print(f"{name}: {10 * count / (time.perf_counter() - begin):,.0f} slots/s")

stream = SlotStream(scenario("deeprx-2021"), 1, 128, device="cuda")
rate("blocks", lambda: stream.block(1), 128)
slots = stream.block(0)
for spec in ("deeprx", "hybrid-w16-d6"):
    net = build(spec, slots.y.shape[1], slots.bits.shape[1], 1).cuda()
    rate(f"{spec}, features", lambda: net.features(slots), 128)
    features = net.features(slots)
    rate(f"{spec}, training pass", lambda: net(features).square().mean().backward(), 128)
'

for stage in "${stages[@]}"; do
    case $stage in
    tests) run tests "$python" -m pytest -m gpu tests/test_gpu.py ;;
    bench)
        run bench "$python" -c "$bench"
        ;;
    agreement)
        sed 's/^device: cpu/device: cuda/' configs/quickstart.yaml >"$out/quickstart.yaml"
        run agreement-train "$python" -m leanrx train "$out/quickstart.yaml" --runs "$out/state/runs"
        run agreement "$python" -m leanrx energy "$out/state/runs/quickstart" --rounds 3 --json
        ;;
    train) run train "$python" -m leanrx train "$config" --runs "$out/state/runs" ;;
    *)
        echo "stage: '$stage' is not one of tests, bench, agreement, train" >&2
        exit 2
        ;;
    esac
done
find "$out/state" -name '*.safetensors' -size +16M -printf '%p has %s bytes; above 16 MiB it may not come back\n'
