"""From events to features: what the log shows of a journey, and of the visitor's past, at the moment of prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd

import mealkit

from .settings import DECISION_SECONDS, Hyperparameters

KEYS = ["visitor_id", "session_id"]


class VisitLoader(mealkit.DataLoader[Hyperparameters]):
    """One row a journey, as it was known :data:`DECISION_SECONDS` after its first event.

    The log may hold what came later; of the journey itself nothing of it is used, in no mode. Of the visitor's earlier
    journeys all is known by then, and used. A journey that has its order before that moment needs no prediction and
    gets no row.
    """

    keep_together = "visitor_id"

    def prepare(self, frame: pd.DataFrame, context: mealkit.Context[Hyperparameters]) -> pd.DataFrame:
        """Features on the index ``(visitor_id, session_id)``, by visitor and in order of time."""
        events = _in_order(frame)
        journeys = events.groupby(KEYS, sort=False)
        begun = journeys["time"].transform("first")
        seconds = (events["time"] - begun).dt.total_seconds()
        known = seconds < DECISION_SECONDS
        now = _beginning(events[known].assign(seconds=seconds[known]))
        past = _past(events)
        features = now.join(past)
        return features[now["orders"] == 0].drop(columns="orders")

    def target(
        self, frame: pd.DataFrame, prepared: pd.DataFrame, context: mealkit.Context[Hyperparameters]
    ) -> pd.Series:
        """Whether the journey ends in an order."""
        # prepare leaves out journeys with an order before the decision: every order that is left comes after it.
        ordered = (frame["event"] == "order").groupby([frame[key] for key in KEYS]).any()
        return ordered.loc[prepared.index].astype("int64")


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The events by visitor and time; those of one second stay in the log's order."""
    events = frame.assign(time=pd.to_datetime(frame["time"]))
    return events.sort_values(["visitor_id", "time"], kind="stable", ignore_index=True)


def _beginning(known: pd.DataFrame) -> pd.DataFrame:
    """A row a journey from its events before the decision."""
    viewed = (known["event"] == "view") & (known["page"] == "product")
    columns = pd.DataFrame(
        {
            **{key: known[key] for key in KEYS},
            "events": 1,
            "product_views": viewed,
            "category_views": (known["event"] == "view") & (known["page"] == "category"),
            "searches": known["event"] == "search",
            "carts": known["event"] == "add_to_cart",
            "checkouts": known["event"] == "checkout",
            "orders": known["event"] == "order",
            # A product that the journey has looked at before: the second look is what tells.
            "second_looks": viewed & known.assign(viewed=viewed).duplicated([*KEYS, "product", "viewed"]),
        }
    )
    journeys = known.groupby(KEYS, sort=False)
    rows = columns.groupby(KEYS, sort=False).sum()
    first = journeys[["time", "device", "referrer"]].first()
    rows["last_event_after"] = journeys["seconds"].last()
    rows["log_price"] = (
        np.log(known["price"].where(viewed & (known["price"] > 0)))
        .groupby([known[key] for key in KEYS], sort=False)
        .mean()
    )
    rows["hour"] = first["time"].dt.hour
    rows["weekday"] = first["time"].dt.day_of_week
    # As plain text: categories of one batch are not those of another.
    rows["device"] = first["device"].astype("str")
    rows["referrer"] = first["referrer"].astype("str")
    return rows


def _past(events: pd.DataFrame) -> pd.DataFrame:
    """A row a journey from the visitor's journeys before it, which were over when it began."""
    whole = pd.DataFrame(
        {
            **{key: events[key] for key in KEYS},
            "orders": events["event"] == "order",
            "carts": events["event"] == "add_to_cart",
            "product_views": (events["event"] == "view") & (events["page"] == "product"),
        }
    )
    journeys = whole.groupby(KEYS, sort=False).sum()
    begun = events.groupby(KEYS, sort=False)["time"].first()
    visitor = journeys.index.get_level_values("visitor_id")
    so_far = journeys.groupby(visitor, sort=False).cumsum() - journeys
    last_order = begun.where(journeys["orders"] > 0).groupby(visitor, sort=False).ffill()
    before = journeys.groupby(visitor, sort=False).shift(1)
    return pd.DataFrame(
        {
            "past_journeys": journeys.groupby(visitor, sort=False).cumcount(),
            "past_orders": so_far["orders"],
            "past_product_views": so_far["product_views"],
            "left_cart": ((before["carts"] > 0) & (before["orders"] == 0)).astype("int64"),
            "days_since_journey": _days(begun - begun.groupby(visitor, sort=False).shift(1)),
            "days_since_order": _days(begun - last_order.groupby(visitor, sort=False).shift(1)),
        }
    )


def _days(elapsed: pd.Series) -> pd.Series:
    days: pd.Series = elapsed.dt.total_seconds() / 86_400
    return days
