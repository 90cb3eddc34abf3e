"""Makes the traffic: what a gateway's counters say at each look of many rollouts. Pure, but for the generator given."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.calibration.scenarios import LOOKS, Floats, Hypothesis, Traffic
from shared.gateway_metrics import UNIT_TIMES

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Users differ in how much they ask for: the logs of their shares have this standard deviation.
_SPREAD_OF_ACTIVITY = 1.0


@dataclass(frozen=True)
class Counters:
    """Raw values at each look, as a scrape would find them, of `runs` rollouts.

    Attributes:
        requests: ``[runs, LOOKS, 3, 2]``: bad and all requests of stable, the candidate, and a control arm: those of
            stable's that another hash gave a second name, as many as the candidate gets (or as are left).
        units: ``[runs, LOOKS, 2, times]``: distinct units by version that met their so-manieth bad event at a gateway,
            as `UNIT_TIMES`; the controller's own count, which no restart of a gateway takes back.
        new: ``[runs, LOOKS, 2]``: the same of users, by the version that served them first.
        served: ``[runs, LOOKS, 2]``: the same of users that each version has served.
        unnamed: ``[runs, LOOKS, 2]``: requests that name no user, as the gateways count them.
        data: ``[runs, LOOKS]``: whether the scrape succeeded.
    """

    requests: Ints
    units: Ints
    new: Ints
    served: Ints
    unnamed: Ints
    data: Bools


@dataclass(frozen=True)
class _Requests:
    """All requests of all runs that were counted, in the order of their arrival in each run; ``[requests]``."""

    run: Ints
    look: Ints
    life: Ints
    gateway: Ints
    user: Ints
    candidate: Bools
    control: Bools
    bad: Bools


def counters(traffic: Traffic, hypothesis: Hypothesis, runs: int, random: np.random.Generator) -> Counters:
    """Draw `runs` rollouts."""
    restarted = random.random((runs, LOOKS)) < traffic.restarts
    requests = _drawn(traffic, hypothesis, restarted, random)
    cell = requests.run * LOOKS + requests.look

    def per_look(where: Bools) -> Ints:
        return np.bincount(cell[where], minlength=runs * LOOKS).reshape(runs, LOOKS)

    def at(where: Bools) -> Ints:
        return _since_restart(per_look(where), restarted)

    arms = (~requests.candidate, requests.candidate, requests.control)
    named = np.full(len(requests.run), traffic.named)
    new, served = named & _firsts(requests.user), named & _firsts(2 * requests.user + requests.candidate)
    return Counters(
        requests=np.stack([np.stack([at(arm & requests.bad), at(arm)], axis=-1) for arm in arms], axis=2),
        units=np.stack([np.stack([per_look(arm & each).cumsum(axis=1) for each in _met(requests, traffic)], axis=-1)
                        for arm in arms[:2]], axis=2),
        new=np.stack([per_look(arm & new).cumsum(axis=1) for arm in arms[:2]], axis=-1),
        served=np.stack([per_look(arm & served).cumsum(axis=1) for arm in arms[:2]], axis=-1),
        unnamed=np.stack([at(arm & ~named) for arm in arms[:2]], axis=-1),
        data=_scraped(traffic, runs, random),
    )


def _drawn(traffic: Traffic, hypothesis: Hypothesis, restarted: Bools, random: np.random.Generator) -> _Requests:
    runs = len(restarted)
    cell, session = _arrived(traffic, runs, random)
    # What came before a restart within its look was never scraped.
    lost = np.where(restarted, random.random((runs, LOOKS)), 0.0).ravel()
    counted = random.random(len(cell)) >= lost[cell]
    cell, session = cell[counted], session[counted]
    run, look = cell // LOOKS, cell % LOOKS
    user, bucket, trait = _users(traffic, run, session, random)
    weight = traffic.weights[look]
    candidate: Bools = bucket < weight
    rate = traffic.base[look] * np.where(candidate, hypothesis.candidate, hypothesis.stable)
    bad: Bools
    if traffic.severity:
        bad = (trait < rate / traffic.severity) & (random.random(len(run)) < traffic.severity)
    else:
        bad = random.random(len(run)) < rate
    gateway = random.integers(traffic.gateways, size=len(run)) if traffic.gateways > 1 else np.zeros_like(run)
    life = np.cumsum(restarted, axis=1, dtype=np.int64).ravel()[cell]
    control: Bools = bucket >= np.maximum(1.0 - weight, weight)
    return _Requests(run, look, life, gateway, user, candidate, control, bad)


def _arrived(traffic: Traffic, runs: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Each request's look (numbered over all runs) and session; one that has none is a session of its own."""
    cells = np.arange(runs * LOOKS)
    if not traffic.session:
        cell = np.repeat(cells, random.poisson(traffic.volume, size=(runs, LOOKS)).ravel())
        return cell, np.arange(len(cell))
    began = np.repeat(cells, random.poisson(traffic.volume / traffic.session, size=(runs, LOOKS)).ravel())
    session = np.repeat(np.arange(len(began)), random.geometric(1.0 / traffic.session, size=len(began)))
    return began[session], session


def _users(
    traffic: Traffic, run: Ints, session: Ints, random: np.random.Generator
) -> tuple[Ints, Floats, Floats]:
    """Who asks (numbered over all runs), its place in the split, and how prone it is to be affected; in [0, 1)."""
    if traffic.session:
        size = int(session.max(initial=0)) + 1
        return session, random.random(size)[session], random.random(size)[session]
    if traffic.users == 0:
        everyone = np.arange(len(run))
        return everyone, random.random(len(run)), random.random(len(run))
    activity = np.cumsum(random.lognormal(sigma=_SPREAD_OF_ACTIVITY, size=traffic.users))
    user = run * traffic.users + np.searchsorted(activity, random.random(len(run)) * activity[-1])
    size = (int(run.max(initial=0)) + 1) * traffic.users
    return user, random.random(size)[user], random.random(size)[user]


def _met(requests: _Requests, traffic: Traffic) -> list[Bools]:
    """Per request: whether it is its unit's first that was the so-manieth bad one at some gateway, for each of
    `UNIT_TIMES`.

    A gateway forgets when it restarts, so a unit of another life is another unit to it, and to the other gateways. Who
    was told of is known by its name.
    """
    if not traffic.named:
        nothing = np.zeros(len(requests.bad), dtype=np.bool_)
        return [requests.bad, *(nothing for _ in UNIT_TIMES[1:])]
    lives = int(requests.life.max(initial=0)) + 1
    unit = (requests.user * lives + requests.life) * traffic.gateways + requests.gateway
    times = np.zeros(len(unit), dtype=np.int64)
    bad = np.flatnonzero(requests.bad)
    order = bad[np.argsort(unit[bad], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(unit[order]) != 0]) if len(order) else order
    times[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)])) + 1
    return [_firsts_of(requests.user, times == time) for time in UNIT_TIMES]


def _firsts_of(key: Ints, where: Bools) -> Bools:
    """Where a key stands for the first time, of those places alone."""
    places = np.flatnonzero(where)
    first = np.zeros(len(key), dtype=np.bool_)
    first[places[_firsts(key[places])]] = True
    return first


def _firsts(key: Ints) -> Bools:
    """Where a key stands for the first time."""
    first = np.zeros(len(key), dtype=np.bool_)
    first[np.unique(key, return_index=True)[1]] = True
    return first


def _since_restart(counted: Ints, restarted: Bools) -> Ints:
    """Counts per look become a counter's values."""
    total: Ints = np.cumsum(counted, axis=1)
    before = np.maximum.accumulate(np.where(restarted, total - counted, 0), axis=1)
    return total - before


def _scraped(traffic: Traffic, runs: int, random: np.random.Generator) -> Bools:
    data = random.random((runs, LOOKS)) >= traffic.gaps
    if traffic.outage:
        begins = random.integers(0, LOOKS - traffic.outage, size=(runs, 1))
        at = np.arange(LOOKS)
        data &= (at < begins) | (at >= begins + traffic.outage)
    return data
