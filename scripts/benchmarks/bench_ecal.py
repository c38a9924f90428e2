"""leanrx's eCAL beside the authors' calculator, PyPI's ecal-energy: equal values, time to a first value, size on disk.

Each run is a fresh process that imports and evaluates leanrx first and then the calculator, so that what both import is
on leanrx's account, and then compares both on cases drawn from a seed. Only cases that both define are drawn; what the
calculator accepts and leanrx refuses (a failure rate of 1, a rate of 0) is in docs/ecal.md. Run it where the
calculator is installed; leanrx's metric needs nothing but Python:

    python -m venv /tmp/ecal && /tmp/ecal/bin/pip install ecal-energy
    PYTHONPATH=. /tmp/ecal/bin/python scripts/benchmarks/bench_ecal.py [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PEER = "ecal-energy"
DEFAULT_MODELS = {
    "MLP": {"num_layers": 3, "din": 10, "dout": 2},
    "KAN": {"num_layers": 3, "grid_size": 10, "din": 10, "dout": 2, "k": 3},
    "Transformer": {
        "context_length": 10,
        "embedding_size": 16,
        "num_heads": 2,
        "num_decoder_blocks": 3,
        "feed_forward_size": 32,
        "vocab_size": 2,
    },
}

GENERIC = {
    layer: f"Generic_{layer}"
    for layer in ("application", "presentation", "session", "transport", "network", "datalink", "physical")
}
FIRST = {
    "model_type": "MLP",
    "model_params": DEFAULT_MODELS["MLP"],
    "num_samples": 256,
    "sample_size": 10,
    "num_epochs": 50,
    "num_inferences": 100,
    "float_precision": 64,
    "processor_flops_per_second": 1e10,
    "processor_max_power": 140,
    "preprocessing_type": "normalization",
    "evaluation_strategy": "train_test_split",
    "k_folds": 5,
    "split_ratio": 0.8,
    "transmission_hops": [{**GENERIC, "failure_rate": 0.0}],
    "virtualization_overhead": 0.1,
}


def once(cases: int) -> dict[str, Any]:
    """Times of one process and the largest relative difference of any figure over the cases."""
    if "energy" in sys.modules:
        raise RuntimeError("leanrx was imported before its import was timed")
    arguments = FIRST
    begin = time.perf_counter()
    ours = evaluate(arguments)
    ours_s = time.perf_counter() - begin
    loaded = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in ("energy", "channels")]
    begin = time.perf_counter()
    from ecal.api import estimate

    theirs = estimate(**arguments)
    theirs_s = time.perf_counter() - begin
    worst, where = difference(ours, theirs), arguments
    source = random.Random(1)
    evaluations_s = [0.0, 0.0]
    for _ in range(cases):
        arguments = draw(source)
        begin = time.perf_counter()
        ours = evaluate(arguments)
        middle = time.perf_counter()
        theirs = estimate(**arguments)
        evaluations_s[0] += middle - begin
        evaluations_s[1] += time.perf_counter() - middle
        if difference(ours, theirs) > worst:
            worst, where = difference(ours, theirs), arguments
    return {
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "worst": worst,
        "where": where,
        "ours_evaluation_s": evaluations_s[0] / cases,
        "theirs_evaluation_s": evaluations_s[1] / cases,
        "ours_bytes": sum(Path(f).stat().st_size for f in loaded if f),
    }


def draw(source: random.Random) -> dict[str, Any]:
    """Arguments of the calculator's ``estimate``, all of them given."""
    from energy.ecal.transport import LAYERS, PROTOCOLS

    def some_hop() -> dict[str, Any]:
        return {layer: source.choice(sorted(PROTOCOLS[layer])) for layer in LAYERS} | {
            "failure_rate": source.choice([0.0, 0.01, 0.5])
        }

    model = source.choice(sorted(DEFAULT_MODELS))
    sizes = DEFAULT_MODELS[model]
    scaled = {
        k: v * source.randint(1, 4) if k in ("din", "context_length", "grid_size") else v for k, v in sizes.items()
    }
    return {
        "model_type": model,
        "model_params": scaled,
        "num_samples": source.randint(10, 5000),
        "sample_size": source.randint(1, 200),
        "num_epochs": source.randint(1, 200),
        "num_inferences": 10 ** source.randint(0, 7),
        "float_precision": source.choice([8, 16, 32, 64]),
        "processor_flops_per_second": 10.0 ** source.randint(9, 14),
        "processor_max_power": source.randint(1, 700),
        "preprocessing_type": source.choice(["normalization", "min_max_scaling", "GADF"]),
        "evaluation_strategy": source.choice(["cross_validation", "train_test_split"]),
        "k_folds": source.randint(2, 10),
        "split_ratio": source.choice([0.5, 0.8, 0.9]),
        "transmission_hops": [some_hop() for _ in range(source.randint(1, 3))],
        "virtualization_overhead": source.choice([0.0, 0.1, 1.0]),
    }


def evaluate(a: dict[str, Any]) -> dict[str, float]:
    """The same by leanrx, in the calculator's words; its habit of charging inference data on the last hop included."""
    from energy.ecal import HoldOut, KFold, LifeCycle, Processor, hop, same_processor
    from energy.ecal.closed_forms import kan, mlp, transformer

    m = a["model_params"]
    flops = {
        "MLP": lambda: mlp(m["num_layers"], m["din"]),
        "KAN": lambda: kan(m["num_layers"], m["din"], m["grid_size"], m["k"]),
        "Transformer": lambda: transformer(
            m["context_length"], m["embedding_size"], m["num_heads"], m["num_decoder_blocks"], m["feed_forward_size"]
        ),
    }
    hops = tuple(
        hop(None, h["failure_rate"], {k: v for k, v in h.items() if k != "failure_rate"})
        for h in a["transmission_hops"]
    )
    result = LifeCycle(
        forward_flops=flops[a["model_type"]](),
        processors=same_processor(Processor(a["processor_flops_per_second"], a["processor_max_power"])),
        samples=a["num_samples"],
        values_per_sample=a["sample_size"],
        bits_per_value=a["float_precision"],
        epochs=a["num_epochs"],
        split=HoldOut(a["split_ratio"]) if a["evaluation_strategy"] == "train_test_split" else KFold(a["k_folds"]),
        preprocessing=a["preprocessing_type"].replace("min_max_scaling", "min-max"),
        inferences=a["num_inferences"],
        hops=hops,
        inference_hops=hops[-1:],
        virtualisation=a["virtualization_overhead"],
    ).evaluate()
    return {
        "transmission": result.development["collection"],
        "preprocessing": result.development["preprocessing"],
        "training": result.development["training"],
        "evaluation": result.development["evaluation"],
        "inference": result.inference["inference"],
        "inference_process": sum(result.inference.values()),
        "total": result.absolute_j,
        "ecal_j_per_bit": result.ecal_j_per_bit,
        "Ed bits": result.development_bits,
        "inf_proc_bits": result.inference_bits,
        "total_bits": result.bits,
    }


def difference(ours: dict[str, float], theirs: dict[str, Any]) -> float:
    return max(abs(value - theirs[name]) / abs(theirs[name]) for name, value in ours.items())


def installed_bytes(package: str) -> int:
    """Size on disk of a package and of all that it requires, as installed here."""
    sizes: dict[str, int] = {}
    waiting = [package]
    while waiting:
        name = waiting.pop().lower().replace("_", "-").replace(".", "-")
        if name in sizes:
            continue
        try:
            result = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a requirement of another platform or of an extra
            sizes[name] = 0
            continue
        paths = [Path(str(f.locate())) for f in result.files or []]
        sizes[name] = sum(path.stat().st_size for path in paths if path.exists())
        for requirement in result.requires or []:
            if "extra ==" not in requirement:
                waiting.append("".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()[0])
    return sum(sizes.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three runs in place of seven")
    parser.add_argument("--once", type=int, metavar="CASES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.once)))
        return
    if importlib.util.find_spec("ecal") is None:
        words = (
            f"{PEER} is not installed in {sys.prefix}: nothing to compare with; pip install {PEER} in a separate venv"
        )
        print(f"skipped: {words}")
        print(json.dumps({"bench": "ecal", "peer": PEER, "ratio": None, "runs": 0, "cases": [], "skipped": words}))
        return
    runs, cases = (3, 50) if options.quick else (7, 200)
    result = []
    for _ in range(runs):
        command = [sys.executable, __file__, "--once", str(cases)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result.append(json.loads(done.stdout.splitlines()[-1]))

    def median(key: str) -> float:
        return statistics.median(r[key] for r in result)

    ratio = statistics.median(r["theirs_s"] / r["ours_s"] for r in result)
    worst = max(result, key=lambda r: r["worst"])
    peer_bytes, our_bytes = installed_bytes(PEER), result[0]["ours_bytes"]
    version = metadata.version(PEER)
    print(f"{'':<34}{'leanrx':>14}{PEER + ' ' + version:>22}{'ratio':>10}")
    print(f"{'import and first value [s]':<34}{median('ours_s'):>14.4f}{median('theirs_s'):>22.4f}{ratio:>10.1f}")
    evaluation = median("theirs_evaluation_s") / median("ours_evaluation_s")
    print(
        f"{'one more value [us]':<34}{1e6 * median('ours_evaluation_s'):>14.1f}"
        f"{1e6 * median('theirs_evaluation_s'):>22.1f}{evaluation:>10.1f}"
    )
    print(
        f"{'needed on disk [MB]':<34}{our_bytes / 1e6:>14.3f}{peer_bytes / 1e6:>22.1f}{peer_bytes / our_bytes:>10.0f}"
    )
    print(
        f"largest relative difference of any of 11 figures over {cases} cases: {worst['worst']:.1e} "
        f"({'equal to 1e-12' if worst['worst'] <= 1e-12 else 'DIFFERENT: ' + json.dumps(worst['where'])})"
    )
    print(
        "On disk: the files that leanrx loads for the metric, beside the calculator with all that it requires. "
        "Installed whole, leanrx requires torch too, for its other rooms."
    )
    rows = [
        {"case": "import and first value", "ratio": ratio, "ours_s": median("ours_s"), "theirs_s": median("theirs_s")},
        {"case": "one more value", "ratio": evaluation},
        {"case": "needed on disk", "ratio": peer_bytes / our_bytes, "ours": our_bytes, "theirs": peer_bytes},
        {"case": "values", "largest_relative_difference": worst["worst"], "compared": cases},
    ]
    print(json.dumps({"bench": "ecal", "peer": f"{PEER} {version}", "ratio": ratio, "runs": runs, "cases": rows}))


if __name__ == "__main__":
    main()
