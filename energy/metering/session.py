"""Metering windows of work: what happens when.

::

    round 1                                                                     round 2 (another order) ...
    |                                                                          |
    | idle  | warm-up | N calls         | cool-down | warm-up | N calls | ...  | idle | ...
    |<- s ->|         |<- min_duration->|           |         |         |      |
    ^begin  ^end      ^sync             ^sync
     counters         begin             end  counters

Counters are read right outside the calls, after a warm-up and a synchronisation with the GPU; nothing is read in
between, so metering costs a few reads per window; ``perf``, where there is one, counts cycles around them. N is as many
calls as fill the window. The idle windows before the first and after the last round, and between rounds, say what the
machine draws without the work: net energy is that of the window less idle power times its duration. The order of works
is drawn anew in every round, so that a machine that warms up or a neighbour that wakes does not always meet the same.

The uncertainty of an energy per call joins the scatter between rounds, the resolution of the counter at both ends, and
the drift of idle power over the session.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from pydantic import Field, TypeAdapter

from energy.metering.measurement import Instrument, Joules
from energy.metering.perf import Cycles, Perf
from energy.metering.power_log import Wattmeter
from leanrx_core.errors import UserError
from leanrx_core.records import Record

IDLE = "idle"


class Protocol(Record):
    """How windows are metered.

    Attributes:
        min_duration_s: shortest window of work.
        idle_s: length of idle windows; 0 for none, and then no net energy.
        cool_down_s: pause after a window.
        rounds: windows per work.
        seed: of the order.
    """

    min_duration_s: float = Field(5.0, gt=0)
    idle_s: float = Field(5.0, ge=0)
    cool_down_s: float = Field(1.0, ge=0)
    rounds: int = Field(3, ge=1)
    seed: int = Field(1, ge=0)


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        name: of the work, or ``idle``.
        round: counted from 0.
        calls: in the window; 0 when idle.
        begin_s: seconds since 1970, for logs of other clocks.
        duration_s: wall clock.
        cpu_s: CPU time of this process, all threads.
        joules: by instrument and component.
        cycles: of this process by ``perf``, all threads; none without it.
    """

    name: str
    round: int
    calls: int
    begin_s: float
    duration_s: float
    cpu_s: float
    joules: tuple[Joules, ...]
    cycles: Cycles | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """What :meth:`as_json` made.

        Raises:
            ValueError: if it is anything else.
        """
        return TypeAdapter(cls).validate_python(data)


def meter_windows(
    works: Mapping[str, Callable[[], object]],
    instruments: Sequence[Instrument],
    protocol: Protocol | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    perf: Perf | None = None,
) -> Iterator[Window]:
    """Meter all works, round by round, idle windows included.

    Args:
        works: calls by name; each is warmed up before its window.
        instruments: read at both ends of every window, in order; several can see the same window.
        done: names and rounds that were metered before; they are left out.
        perf: counts the cycles of every window.

    Raises:
        UserError: if a window would be too short for an instrument, or a counter cannot be read.
    """
    protocol = protocol or Protocol()
    for instrument in instruments:
        for what, given in (("min_duration_s", protocol.min_duration_s), ("idle_s", protocol.idle_s)):
            if given < instrument.shortest_s and (given or what != "idle_s"):
                raise UserError(
                    f"{what}: {given:g} s is too short for {instrument.name}; give {instrument.shortest_s:g} or more"
                )
    order = random.Random(protocol.seed)
    names = list(works)
    for index in range(protocol.rounds):
        order.shuffle(names)
        todo = [name for name in names if (name, index) not in done]
        if todo and protocol.idle_s and (IDLE, index) not in done:
            yield _window(IDLE, index, None, instruments, protocol.idle_s, perf)
        for name in todo:
            works[name]()
            yield _window(name, index, works[name], instruments, protocol.min_duration_s, perf)
            time.sleep(protocol.cool_down_s)
    if protocol.idle_s and (IDLE, protocol.rounds) not in done:
        yield _window(IDLE, protocol.rounds, None, instruments, protocol.idle_s, perf)


def _window(
    name: str,
    index: int,
    work: Callable[[], object] | None,
    instruments: Sequence[Instrument],
    duration_s: float,
    perf: Perf | None,
) -> Window:
    _synchronise()
    if perf is not None:
        perf.begin()
    for instrument in instruments:
        instrument.begin()
    begin_s, begin, cpu, calls = time.time(), time.perf_counter(), time.process_time(), 0
    if work is None:
        time.sleep(duration_s)
    else:
        while time.perf_counter() - begin < duration_s:
            work()
            calls += 1
            if calls % 16 == 0 or calls == 1:
                _synchronise()  # launched is not done: without it, a queue would outgrow the window
        _synchronise()
    spent_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    joules = [j for instrument in reversed(instruments) for j in instrument.end()]
    cycles = perf.end() if perf is not None else None
    return Window(name, index, calls, begin_s, spent_s, cpu_s, tuple(joules), cycles)


@dataclass(frozen=True)
class PerCall:
    """One work over all its windows, by one instrument.

    Attributes:
        name: of the work.
        instrument, kind: whose joules; several components count by their weakest mark.
        calls, windows: how many.
        duration_s, duration_sd_s: of a call, the median over windows, and the standard deviation between them.
        gross_j, net_j: of a call, the median over windows, which one disturbed window does not move; net is NaN where
            idle was not metered.
        uncertainty_j: standard uncertainty of both.
        cpu_s: of a call, all threads, the median over windows.
        cycles: of a call, all threads, the median over windows; none where ``perf`` missed one.
    """

    name: str
    instrument: str
    kind: str
    calls: int
    windows: int
    duration_s: float
    duration_sd_s: float
    gross_j: float
    net_j: float
    uncertainty_j: float
    cpu_s: float
    cycles: float | None


def per_call(windows: Sequence[Window], name: str, instrument: str) -> PerCall:
    """Summarise the windows of a work; the RAM that CodeCarbon assumes is left out.

    Raises:
        UserError: if there is no window of it, or the instrument did not see it.
    """
    mine = [w for w in windows if w.name == name]
    seen = [[j for j in w.joules if j.instrument == instrument and j.kind != "assumed"] for w in mine]
    if not mine or not all(seen):
        raise UserError(f"{instrument}: saw no window of {name}; meter it again with this instrument")
    gross = [sum(j.energy_j for j in part) / w.calls for w, part in zip(mine, seen, strict=True)]
    durations = [w.duration_s / w.calls for w in mine]
    calls = sum(w.calls for w in mine)
    resting = [
        (w, [j for j in w.joules if j.instrument == instrument and j.kind != "assumed"])
        for w in windows
        if w.name == IDLE
    ]
    idle = [sum(j.energy_j for j in part) / w.duration_s for w, part in resting if part]
    scatter = statistics.stdev(gross) / math.sqrt(len(gross)) if len(gross) > 1 else 0.0
    steps = [
        math.hypot(*(j.resolution_j for j in part)) / math.sqrt(6) / w.calls  # two readings, each uniform in a step
        for w, part in zip(mine, seen, strict=True)
    ]
    reading = math.hypot(*steps) / len(steps)
    each_s = statistics.median(durations)
    drift = each_s * statistics.stdev(idle) / math.sqrt(len(idle)) if len(idle) > 1 else 0.0
    gross_j = statistics.median(gross)
    kinds = {j.kind for part in seen for j in part}
    cycles = [w.cycles.cycles / w.calls for w in mine if w.cycles]
    return PerCall(
        name=name,
        instrument=instrument,
        kind=next(k for k in ("modelled", "measured") if k in kinds),
        calls=calls,
        windows=len(mine),
        duration_s=each_s,
        duration_sd_s=statistics.stdev(durations) if len(durations) > 1 else 0.0,
        gross_j=gross_j,
        net_j=gross_j - statistics.fmean(idle) * each_s if idle else math.nan,
        uncertainty_j=math.hypot(scatter, reading, drift),
        cpu_s=statistics.median(w.cpu_s / w.calls for w in mine),
        cycles=statistics.median(cycles) if len(cycles) == len(mine) else None,
    )


def with_log(windows: Sequence[Window], log: Wattmeter) -> list[Window]:
    """The windows with the joules of a wattmeter's log beside the others.

    Raises:
        UserError: if the log does not cover a window, see :meth:`energy.metering.power_log.Wattmeter.between`.
    """
    return [replace(w, joules=(*w.joules, log.between(w.begin_s, w.begin_s + w.duration_s))) for w in windows]


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
