"""Metering sessions: windows of repeated calls, idle windows, rounds, and what they say about one call.

::

    round 1                                                                     round 2 (another order) ...
    |                                                                          |
    | idle  | warm-up | N calls         | cool-down | warm-up | N calls | ...  | idle | ...
    |<- s ->|         |<- min_duration->|           |         |         |      |
    ^begin  ^end      ^sync             ^sync
     counters         begin             end  counters

Counters are read right outside the calls, after a warm-up and a synchronisation with the GPU. Nothing is read in
between, so metering costs a few reads per window; ``perf``, where there is one, counts cycles around them. N is as many
calls as fill the window. Idle windows before the first round, between rounds and after the last one give the power of
the machine without the workload: net energy is that of the window less the median idle power times its duration. The
order of workloads is sampled anew in every round, so that a machine that warms up does not always disturb the same
workload.

The uncertainty of an energy per call combines the scatter between rounds, the readings of the counter at both ends, and
the drift of idle power over the session.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from pydantic import Field, TypeAdapter

from energy.metering.instruments import available
from energy.metering.measurement import Instrument, Measurement, Provenance, counted, weakest
from energy.metering.perf import Cycles, Perf
from energy.metering.power_log import WATTMETER, Wattmeter
from leanrx_core.errors import UserError
from leanrx_core.records import Record

IDLE = "idle"


class MeteringProtocol(Record):
    """How windows are metered.

    Attributes:
        min_duration_s: shortest window of a workload.
        idle_s: length of idle windows; 0 for none, and then no net energy.
        cool_down_s: pause after a window.
        rounds: windows per workload.
        seed: of the order.
    """

    min_duration_s: float = Field(5.0, gt=0, le=86_400)
    idle_s: float = Field(5.0, ge=0, le=86_400)
    cool_down_s: float = Field(1.0, ge=0, le=86_400)
    rounds: int = Field(3, ge=1, le=1000)
    seed: int = Field(1, ge=0, lt=2**32)


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        name: of the workload, or ``idle``.
        round: counted from 0.
        calls: in the window; 0 when idle.
        begin_s: seconds since 1970, for logs of other clocks.
        duration_s: wall clock.
        cpu_s: CPU time of this process, all threads.
        measurements: by instrument and component.
        cycles: of this process by ``perf``, all threads; none without it.
    """

    name: str
    round: int
    calls: int
    begin_s: float
    duration_s: float
    cpu_s: float
    measurements: tuple[Measurement, ...]
    cycles: Cycles | None = None

    def by(self, instrument: str, component: str | None = None) -> list[Measurement]:
        """Measurements of an instrument: of one component, or of all that are not assumed."""
        own = [m for m in self.measurements if m.instrument == instrument]
        return counted(own) if component is None else [m for m in own if m.component == component]

    @property
    def is_possible(self) -> bool:
        """Whether a meter can have given these values: no negative time or energy, and none that is not finite."""
        times_s, energies_j = (self.begin_s, self.duration_s, self.cpu_s), [m.energy_j for m in self.measurements]
        is_finite = all(0 <= value < math.inf for value in (*times_s, *energies_j))
        return is_finite and self.duration_s > 0 and self.round >= 0 and (self.calls > 0) == (self.name != IDLE)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what :meth:`as_json` made.

        Raises:
            ValueError: if it is anything else.
        """
        return TypeAdapter(cls).validate_python(data)


def meter_windows(
    calls: Mapping[str, Callable[[], object]],
    instruments: Sequence[Instrument],
    protocol: MeteringProtocol | None = None,
    done: frozenset[tuple[str, int]] = frozenset(),
    perf: Perf | None = None,
) -> Iterator[Window]:
    """Meter all workloads, round by round, idle windows included.

    Args:
        calls: by name of the workload; each is warmed up before its window.
        instruments: read at both ends of every window, in order; several can see the same window.
        protocol: lengths of windows and number of rounds; the defaults if not given.
        done: names and rounds that were metered before; they are left out.
        perf: counts the cycles of every window.

    Yields:
        the windows as they are metered.

    Raises:
        UserError: if a window would be too short for an instrument, or a counter cannot be read.
    """
    protocol = protocol or MeteringProtocol()
    _check_lengths(protocol, instruments)
    order = random.Random(protocol.seed)
    names = list(calls)
    for index in range(protocol.rounds):
        order.shuffle(names)
        missing = [name for name in names if (name, index) not in done]
        if missing and protocol.idle_s and (IDLE, index) not in done:
            yield _window(IDLE, index, None, instruments, protocol.idle_s, perf)
        for name in missing:
            calls[name]()
            yield _window(name, index, calls[name], instruments, protocol.min_duration_s, perf)
            time.sleep(protocol.cool_down_s)
    if protocol.idle_s and (IDLE, protocol.rounds) not in done:
        yield _window(IDLE, protocol.rounds, None, instruments, protocol.idle_s, perf)


def _check_lengths(protocol: MeteringProtocol, instruments: Sequence[Instrument]) -> None:
    for instrument in instruments:
        for field in ("min_duration_s", "idle_s"):
            length_s = getattr(protocol, field)
            if length_s < instrument.shortest_s and (length_s or field != "idle_s"):
                raise UserError(
                    f"{field}: {length_s:g} s is too short for {instrument.name}; "
                    f"give {instrument.shortest_s:g} or more"
                )


def _window(
    name: str,
    index: int,
    call: Callable[[], object] | None,
    instruments: Sequence[Instrument],
    duration_s: float,
    perf: Perf | None,
) -> Window:
    synchronise()
    if perf is not None:
        perf.begin()
    for instrument in instruments:
        instrument.begin()
    begin_s, begin, cpu, calls = time.time(), time.perf_counter(), time.process_time(), 0
    if call is None:
        time.sleep(duration_s)
    else:
        while calls == 0 or time.perf_counter() - begin < duration_s:  # a short window has one call, too
            call()
            calls += 1
            if calls % 16 == 0 or calls == 1:
                synchronise()  # launched is not done: without it, a queue would outgrow the window
        synchronise()
    spent_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    measurements = [m for instrument in reversed(instruments) for m in instrument.end()]
    cycles = perf.end() if perf is not None else None
    own = tuple(replace(m, repeats=calls, duration_s=spent_s) for m in measurements)
    return Window(name, index, calls, begin_s, spent_s, cpu_s, own, cycles)


@dataclass(frozen=True)
class CallStatistics:
    """One call of a workload over all its windows, by one instrument.

    Attributes:
        name: of the workload.
        instrument, instrument_version: whose joules.
        provenance: the weakest of the components.
        calls, windows: how many.
        duration_s, duration_sd_s: of a call, the median over windows, and the standard deviation between them.
        gross_j: of a call, the median over windows, so that one disturbed window has little effect.
        net_j: gross less the idle power, the median over idle windows, times the duration; NaN where idle power was
            not metered.
        uncertainty_j: standard uncertainty of both.
        cpu_s: of a call, all threads, the median over windows.
        cycles: of a call, all threads, the median over windows; none where ``perf`` missed one.
    """

    name: str
    instrument: str
    instrument_version: str
    provenance: Provenance
    calls: int
    windows: int
    duration_s: float
    duration_sd_s: float
    gross_j: float
    net_j: float
    uncertainty_j: float
    cpu_s: float
    cycles: float | None


def call_statistics(
    windows: Sequence[Window], name: str, instrument: str, component: str | None = None
) -> CallStatistics:
    """Summarise the windows of a workload.

    Args:
        windows: of a session.
        name: of the workload.
        instrument: its name.
        component: one component, or all that are not assumed.

    Raises:
        UserError: if there is no window of the workload, or the instrument did not see all of them.

    Example:
        >>> def joules(energy_j):
        ...     return (Measurement("cpu", energy_j, "measured", "RAPL", "powercap", 0.0, 5.0),)
        >>> idle = Window(IDLE, 0, 0, 0.0, 5.0, 0.0, joules(10.0))
        >>> windows = [idle, Window("net", 0, 2, 0.0, 5.0, 5.0, joules(30.0))]
        >>> call = call_statistics(windows, "net", "RAPL")
        >>> call.gross_j, call.net_j
        (15.0, 10.0)
    """
    own = [(w, w.by(instrument, component)) for w in windows if w.name == name]
    if not own or not all(m for _, m in own):
        raise UserError(f"{instrument}: saw no window of {name}; meter it again with this instrument")
    idle = [(w, m) for w in windows if w.name == IDLE and (m := w.by(instrument, component))]
    idle_w = [_energy_j(m) / w.duration_s for w, m in idle]
    gross = [_energy_j(m) / w.calls for w, m in own]
    durations = [w.duration_s / w.calls for w, _ in own]
    scatter = statistics.stdev(gross) / math.sqrt(len(gross)) if len(gross) > 1 else 0.0
    reading = math.hypot(*(x.uncertainty_j / w.calls for w, m in own for x in m)) / len(own)
    duration_s = statistics.median(durations)
    drift = duration_s * statistics.stdev(idle_w) / math.sqrt(len(idle_w)) if len(idle_w) > 1 else 0.0
    gross_j = statistics.median(gross)
    cycles = [w.cycles.cycles / w.calls for w, _ in own if w.cycles]
    return CallStatistics(
        name=name,
        instrument=instrument,
        instrument_version="; ".join(dict.fromkeys(x.instrument_version for _, m in own for x in m)),
        provenance=weakest(x.provenance for _, m in own for x in m),
        calls=sum(w.calls for w, _ in own),
        windows=len(own),
        duration_s=duration_s,
        duration_sd_s=statistics.stdev(durations) if len(durations) > 1 else 0.0,
        gross_j=gross_j,
        net_j=gross_j - statistics.median(idle_w) * duration_s if idle_w else math.nan,
        uncertainty_j=math.hypot(scatter, reading, drift),
        cpu_s=statistics.median(w.cpu_s / w.calls for w, _ in own),
        cycles=statistics.median(cycles) if len(cycles) == len(own) else None,
    )


def _energy_j(measurements: Iterable[Measurement]) -> float:
    return sum(m.energy_j for m in measurements)


def join_log(windows: Sequence[Window], log: Wattmeter, required: frozenset[str]) -> list[Window]:
    """The windows with the energy of a wattmeter's log. It replaces that of an earlier log where it covers a window.

    Args:
        windows: of one or more sessions.
        log: of the wattmeter.
        required: names of workloads whose windows the log must cover, unless an earlier log did; others may lie
            outside.

    Raises:
        UserError: if no log covers a required window, see
            :meth:`energy.metering.power_log.Wattmeter.between`.
    """
    joined = []
    for w in windows:
        end_s = w.begin_s + w.duration_s
        has_earlier = any(m.instrument == WATTMETER for m in w.measurements)
        if log.covers(w.begin_s, end_s) or (w.name in required and not has_earlier):
            others = tuple(m for m in w.measurements if m.instrument != WATTMETER)
            measurement = replace(log.between(w.begin_s, end_s), repeats=w.calls)
            w = replace(w, measurements=(*others, measurement))
        joined.append(w)
    return joined


def measure(
    call: Callable[[], object],
    instruments: Sequence[Instrument] | None = None,
    protocol: MeteringProtocol | None = None,
) -> list[Measurement]:
    """Meter one call, repeated in windows.

    Args:
        call: without arguments; it is warmed up once.
        instruments: those of this machine's CPU if not given.
        protocol: lengths of windows and number of rounds; one window of 5 s without idle windows if not given.

    Returns:
        one measurement per instrument and component, over all windows. ``energy_per_repeat_j`` is that of one call.

    Raises:
        UserError: if a window is too short for an instrument, or a counter cannot be read.

    Example:
        >>> class Constant:  # an instrument that always reads 2 J
        ...     name, shortest_s = "constant", 0.0
        ...     def begin(self): pass
        ...     def end(self): return [Measurement("cpu", 2.0, "assumed", "constant", "1", 0.0, 0.1)]
        >>> protocol = MeteringProtocol(min_duration_s=0.01, idle_s=0, cool_down_s=0, rounds=2)
        >>> (measurement,) = measure(lambda: None, [Constant()], protocol)
        >>> measurement.energy_j, measurement.repeats > 1
        (4.0, True)
    """
    instruments = available() if instruments is None else instruments
    protocol = protocol or MeteringProtocol(idle_s=0, cool_down_s=0, rounds=1)
    totals: dict[tuple[str, str], Measurement] = {}
    for window in meter_windows({"call": call}, instruments, protocol):
        if window.name != IDLE:
            for m in window.measurements:
                key = m.instrument, m.component
                totals[key] = totals[key] + m if key in totals else m
    return list(totals.values())


def synchronise() -> None:
    """Wait until CUDA devices have done all that was launched."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
