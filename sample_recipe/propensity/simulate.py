"""Simulated visits of a web shop whose true probabilities of ordering are known.

Run ``python -m propensity.simulate --visitors 800 --seed 1 --output events.csv``. Nothing but numpy, pandas and, for
Parquet and for speed, pyarrow is needed.

What a visitor does in the first two minutes is drawn; then the probability of an order is computed *from what the log
shows until then* (this journey's beginning, the journeys before); then the order is drawn with that probability, and
the rest of the journey follows from it. So no model can do better than that probability: :func:`best_possible`.
"""

from __future__ import annotations

import argparse
import sys
import time as clock
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .settings import DECISION_SECONDS, DEVICES, EVENTS, REFERRERS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PAGES = ("home", "category", "search", "product", "cart", "checkout", "confirmation")
HOME, CATEGORY, SEARCH, PRODUCT, CART, CHECKOUT, CONFIRMATION = range(7)
VIEW, SEARCHED, ADDED, CHECKED_OUT, ORDERED = range(5)

START = np.datetime64("2026-01-05T00:00:00", "s")
DAY = 86_400
MAX_JOURNEYS = 10
PRODUCTS = 400

# States of browsing: the pages of that number, but 4 is "put the product into the cart" and 5 is "left".
_ADD, _LEFT = 4, 5
# From a state (row) to the next one (column), for a visitor with little and with much interest.
_LITTLE = np.array(
    [
        [0.05, 0.35, 0.15, 0.15, 0.00, 0.30],
        [0.05, 0.25, 0.10, 0.35, 0.00, 0.25],
        [0.03, 0.12, 0.20, 0.40, 0.00, 0.25],
        [0.05, 0.20, 0.10, 0.32, 0.03, 0.30],
        [0.05, 0.20, 0.10, 0.30, 0.00, 0.35],
    ]
)
_MUCH = np.array(
    [
        [0.03, 0.35, 0.22, 0.30, 0.00, 0.10],
        [0.03, 0.20, 0.10, 0.57, 0.00, 0.10],
        [0.02, 0.10, 0.18, 0.62, 0.00, 0.08],
        [0.03, 0.17, 0.10, 0.40, 0.20, 0.10],
        [0.05, 0.22, 0.13, 0.45, 0.00, 0.15],
    ]
)
_SLOTS = 12  # events before the decision, at most
_LATER_SLOTS = 6  # further browsing after it, at most


@dataclass(frozen=True)
class Simulation:
    """What was drawn.

    Attributes:
        events: The log: rows of ``settings.Event``, the events of a visitor together and in order of time.
        truth: One row a journey: ``visitor_id``, ``session_id``, the true ``probability`` and whether it ``ordered``.
    """

    events: pd.DataFrame
    truth: pd.DataFrame


def simulate(visitors: int, seed: int = 0) -> Simulation:
    """Draw the visits of so many visitors in a quarter of a year; about 13 events and 2.2 journeys each."""
    random = np.random.default_rng(seed)
    shop = _Shop(random)
    interest = random.normal(size=visitors)
    journeys = np.minimum(1 + random.poisson(np.exp(0.1 + 0.4 * interest)), MAX_JOURNEYS)
    device = random.choice(3, size=visitors, p=(0.38, 0.54, 0.08))
    first = random.integers(0, 60 * DAY, size=visitors)
    past = _Past(visitors)
    start = first.astype(np.float64)
    pieces: list[dict[str, npt.NDArray[Any]]] = []
    truths: list[dict[str, npt.NDArray[Any]]] = []
    before = 0
    # The n-th journey of every visitor at once: each depends on how the ones before it ended.
    for number in range(MAX_JOURNEYS):
        who = np.flatnonzero(journeys > number)
        if not len(who):
            break
        switched = random.random(len(who)) < 0.1
        journey = _Journeys(
            visitor=who,
            session=before + np.arange(len(who)),
            start=_waking(start[who], random),
            device=np.where(switched, random.integers(0, 3, len(who)), device[who]),
            referrer=random.choice(5, size=len(who), p=(0.24, 0.36, 0.12, 0.12, 0.16)),
            mood=1 / (1 + np.exp(-(interest[who] + random.normal(size=len(who))))),
        )
        before += len(who)
        browsed = _browse(journey, shop, random)
        probability = 1 / (1 + np.exp(-_log_odds(journey, browsed, past)))
        ordered = random.random(len(who)) < probability
        later, end, left_cart = _finish(journey, browsed, ordered, shop, random)
        pieces += [browsed.events, later]
        truths.append(
            {"visitor_id": who, "session_id": journey.session, "probability": probability, "ordered": ordered}
        )
        past.add(journey, ordered, left_cart)
        # The next journey begins half an hour later at the soonest, or it would be the same journey.
        start[who] = end + 1_800 + random.exponential(5 * DAY, len(who))
    return Simulation(_log(pieces), _by_visitor(truths))


class _Shop:
    """The products: how often each is looked at, and its price."""

    def __init__(self, random: np.random.Generator) -> None:
        popularity = 1 / np.arange(1, PRODUCTS + 1) ** 0.8
        self.share = np.cumsum(popularity / popularity.sum())
        self.price = np.round(np.exp(random.normal(np.log(40), 0.7, PRODUCTS)), 2)

    def pick(self, count: int, random: np.random.Generator) -> Ints:
        return np.minimum(np.searchsorted(self.share, random.random(count)), PRODUCTS - 1)


@dataclass(frozen=True)
class _Journeys:
    visitor: Ints
    session: Ints
    start: Floats
    device: Ints
    referrer: Ints
    mood: Floats


class _Past:
    """What the log tells of each visitor's journeys so far."""

    def __init__(self, visitors: int) -> None:
        self.journeys = np.zeros(visitors)
        self.orders = np.zeros(visitors)
        self.last_start = np.full(visitors, -np.inf)
        self.left_cart = np.zeros(visitors, dtype=bool)

    def add(self, journey: _Journeys, ordered: npt.NDArray[np.bool_], left_cart: npt.NDArray[np.bool_]) -> None:
        self.journeys[journey.visitor] += 1
        self.orders[journey.visitor] += ordered
        self.last_start[journey.visitor] = journey.start
        self.left_cart[journey.visitor] = left_cart


@dataclass(frozen=True)
class _Browsed:
    """The beginning of each journey: its events, and what the log shows of it at the decision."""

    events: dict[str, npt.NDArray[Any]]
    product_views: Floats
    repeated_views: Floats
    searches: Floats
    added: npt.NDArray[np.bool_]
    mean_price: Floats
    last_product: Ints


def _browse(journey: _Journeys, shop: _Shop, random: np.random.Generator) -> _Browsed:
    """Walk through the pages until the decision; a row a journey, a column a step."""
    count = len(journey.visitor)
    shape = (count, _SLOTS)
    pause = random.exponential(22.0, shape) + 1.0
    pause[:, 0] = 0.0
    offset = np.floor(np.cumsum(pause, axis=1))
    state = np.empty(shape, dtype=np.int8)
    product = np.zeros(shape, dtype=np.int64)
    current = random.choice(4, size=count, p=(0.35, 0.25, 0.10, 0.30)).astype(np.int8)
    picked = shop.pick(count, random)
    # Mixing two chains keeps the walk one table look-up a step: mood is the chance to walk like an interested visitor.
    ladders = np.cumsum(np.stack([_LITTLE, _MUCH]), axis=2)[:, :, :-1].reshape(10, 5)
    for step in range(_SLOTS):
        state[:, step] = current
        # A third of the looks at a product are second looks at the same one.
        again = random.random(count) < 0.33
        picked = np.where((current == PRODUCT) & ~again, shop.pick(count, random), picked)
        product[:, step] = picked
        row = current + 5 * (random.random(count) < journey.mood)
        following = (random.random(count)[:, None] > ladders[np.minimum(row, 9)]).sum(axis=1)
        current = np.where(current == _LEFT, _LEFT, following).astype(np.int8)
    seen = (state != _LEFT) & (offset < DECISION_SECONDS)
    viewed = seen & (state == PRODUCT)
    views = viewed.sum(axis=1).astype(np.float64)
    # A look is repeated when its product was looked at before in the journey.
    repeated = np.zeros(count)
    for step in range(1, _SLOTS):
        earlier = (viewed[:, :step] & (product[:, :step] == product[:, [step]])).any(axis=1)
        repeated += viewed[:, step] & earlier
    total = np.where(viewed, shop.price[product], 0.0).sum(axis=1)
    last = _SLOTS - 1 - np.argmax(viewed[:, ::-1], axis=1)
    rows, columns = np.nonzero(seen)
    what, item = state[rows, columns], product[rows, columns]
    with_product = (what == PRODUCT) | (what == _ADD)
    return _Browsed(
        events={
            **_journey_columns(journey, rows, offset[rows, columns]),
            "event": np.where(what == _ADD, ADDED, np.where(what == SEARCH, SEARCHED, VIEW)).astype(np.int8),
            "page": np.where(what == _ADD, PRODUCT, what).astype(np.int8),
            "product": np.where(with_product, item, -1).astype(np.int16),
            "price": np.where(with_product, shop.price[item], np.nan),
        },
        product_views=views,
        repeated_views=repeated,
        searches=(seen & (state == SEARCH)).sum(axis=1).astype(np.float64),
        added=(seen & (state == _ADD)).any(axis=1),
        mean_price=np.divide(total, views, out=np.full(count, 40.0), where=views > 0),
        last_product=product[np.arange(count), last],
    )


def _log_odds(journey: _Journeys, seen: _Browsed, past: _Past) -> Floats:
    """The true log-odds of an order, from nothing but what the log shows at the decision."""
    who = journey.visitor
    days = (journey.start - past.last_start[who]) / DAY
    hour = (journey.start // 3_600) % 24
    mobile = journey.device == DEVICES.index("mobile")
    of_referrer = np.array([0.3, 0.1, 0.5, -0.7, -0.3])[journey.referrer]
    odds: Floats = (
        -4.1
        + 0.30 * np.minimum(seen.product_views, 6)
        + 0.55 * np.minimum(seen.repeated_views, 3)
        + 0.25 * np.minimum(seen.searches, 2)
        + (1.7 - 0.6 * mobile) * seen.added
        - 0.45 * np.log(seen.mean_price / 40) * (seen.product_views > 0)
        + of_referrer
        - 0.3 * mobile
        + 0.25 * ((hour >= 18) & (hour < 23))
        + 0.9 * (past.orders[who] > 0)
        + 0.8 * past.left_cart[who] * (days < 7)
        + 0.3 * (days < 2)
    )
    return odds


def _finish(
    journey: _Journeys, browsed: _Browsed, ordered: npt.NDArray[np.bool_], shop: _Shop, random: np.random.Generator
) -> tuple[dict[str, npt.NDArray[Any]], Floats, npt.NDArray[np.bool_]]:
    """``(events after the decision, end of each journey, whether it left a full cart)``."""
    count = len(ordered)
    steps = np.minimum(random.geometric(0.35, count) - 1, _LATER_SLOTS)
    # Who does not order may still fill a cart and even begin to pay: these events are no label in disguise.
    fills = ordered & ~browsed.added | ~ordered & (random.random(count) < 0.06 + 0.10 * journey.mood)
    pays = ordered | (fills | browsed.added) & (random.random(count) < 0.25)
    happens = np.column_stack(
        [np.arange(_LATER_SLOTS) < steps[:, None], fills, pays | fills, pays, ordered],
    )
    pause = np.floor(random.exponential(40.0, happens.shape)) + 1.0
    offset = DECISION_SECONDS + np.cumsum(pause * happens, axis=1)
    page = np.broadcast_to(np.array([PRODUCT] * _LATER_SLOTS + [PRODUCT, CART, CHECKOUT, CONFIRMATION]), happens.shape)
    event = np.broadcast_to(np.array([VIEW] * _LATER_SLOTS + [ADDED, VIEW, CHECKED_OUT, ORDERED]), happens.shape)
    rows, columns = np.nonzero(happens)
    item = np.where(columns < _LATER_SLOTS, shop.pick(len(rows), random), browsed.last_product[rows])
    with_product = columns <= _LATER_SLOTS
    events = {
        **_journey_columns(journey, rows, offset[rows, columns]),
        "event": event[rows, columns].astype(np.int8),
        "page": page[rows, columns].astype(np.int8),
        "product": np.where(with_product, item, -1).astype(np.int16),
        "price": np.where(with_product, shop.price[item], np.nan),
    }
    return events, journey.start + offset[:, -1], (fills | browsed.added) & ~ordered


def _journey_columns(journey: _Journeys, rows: Ints, offset: Floats) -> dict[str, npt.NDArray[Any]]:
    return {
        "visitor_id": journey.visitor[rows],
        "session_id": journey.session[rows],
        "time": (journey.start[rows] + offset).astype(np.int64),
        "device": journey.device[rows].astype(np.int8),
        "referrer": journey.referrer[rows].astype(np.int8),
    }


def _waking(start: Floats, random: np.random.Generator) -> Floats:
    """Shops are quiet at night: two thirds of the visits between 1 and 7 o'clock come half a day later."""
    hour = (start // 3_600) % 24
    night = (hour >= 1) & (hour < 7) & (random.random(len(start)) < 0.67)
    moved: Floats = np.floor(start + 43_200 * night)
    return moved


def _log(pieces: list[dict[str, npt.NDArray[Any]]]) -> pd.DataFrame:
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    # Stable: events of one second stay in the order in which they were drawn.
    order = np.lexsort((columns["time"], columns["session_id"], columns["visitor_id"]))
    columns = {name: values[order] for name, values in columns.items()}

    def named(codes: npt.NDArray[np.integer[Any]], names: tuple[str, ...]) -> pd.Series:
        return pd.Series(pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(names))))

    return pd.DataFrame(
        {
            "visitor_id": columns["visitor_id"],
            "session_id": columns["session_id"],
            "time": START + columns["time"].astype("timedelta64[s]"),
            "event": named(columns["event"], EVENTS),
            "page": named(columns["page"], PAGES),
            "product": named(columns["product"], tuple(f"P{number:03d}" for number in range(PRODUCTS))),
            "price": columns["price"],
            "device": named(columns["device"], DEVICES),
            "referrer": named(columns["referrer"], REFERRERS),
        }
    )


def _by_visitor(truths: list[dict[str, npt.NDArray[Any]]]) -> pd.DataFrame:
    frame = pd.DataFrame({name: np.concatenate([piece[name] for piece in truths]) for name in truths[0]})
    return frame.sort_values(["visitor_id", "session_id"], ignore_index=True)


def best_possible(truth: pd.DataFrame) -> dict[str, float]:
    """ROC AUC and log loss of the true probabilities: on average no model reaches more, or less."""
    probability, ordered = truth["probability"].to_numpy(), truth["ordered"].to_numpy(dtype=bool)
    positives = int(ordered.sum())
    negatives = len(ordered) - positives
    # The Mann-Whitney form of the area under the curve: ranks of the positives, ties shared.
    ranks = truth["probability"].rank().to_numpy()
    area = (ranks[ordered].sum() - positives * (positives + 1) / 2) / max(positives * negatives, 1)
    loss = -np.where(ordered, np.log(probability), np.log1p(-probability)).mean()
    return {"roc_auc": float(area), "log_loss": float(loss), "share_ordered": positives / len(ordered)}


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write CSV, or Parquet where the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
        return
    try:
        from pyarrow import Table, csv
    except ImportError:
        frame.to_csv(path, index=False)
        return
    # pyarrow writes some ten times faster than pandas.
    csv.write_csv(Table.from_pandas(frame, preserve_index=False), path, csv.WriteOptions(quoting_style="needed"))


def main(arguments: list[str] | None = None) -> int:
    """Write a log of events, and the truth if asked; print what was made."""
    parser = argparse.ArgumentParser(prog="python -m propensity.simulate", description="Simulate visits of a web shop.")
    parser.add_argument("--visitors", type=int, default=800, help="how many (default 800: about 10,000 events)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same file (default 0)")
    parser.add_argument("--output", type=Path, required=True, help="events.csv or events.parquet")
    parser.add_argument("--truth", type=Path, help="also write each journey's true probability here")
    options = parser.parse_args(arguments)
    if options.visitors < 1:
        parser.error("--visitors must be 1 or more")
    began = clock.perf_counter()
    drawn = simulate(options.visitors, options.seed)
    write(drawn.events, options.output)
    if options.truth:
        write(drawn.truth, options.truth)
    best = best_possible(drawn.truth)
    print(
        f"{options.output}: {len(drawn.events):,} events of {len(drawn.truth):,} journeys, "
        f"{best['share_ordered']:.1%} with an order; best possible ROC AUC {best['roc_auc']:.4f}, "
        f"log loss {best['log_loss']:.4f}; {clock.perf_counter() - began:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
