"""What the recipe declares: hyperparameters and rows; it imports mealkit only, so that a builder can read it."""

from datetime import datetime
from typing import Literal

import mealkit
from mealkit import Field

DECISION_SECONDS = 120
"""The moment of prediction: so long after the first event of a journey. Whatever happens later is not known yet.

It is part of the question that the model answers, not a hyperparameter: another value is another recipe.
"""

EVENTS = ("view", "search", "add_to_cart", "checkout", "order")
DEVICES = ("desktop", "mobile", "tablet")
REFERRERS = ("direct", "search", "email", "social", "ads")


class Hyperparameters(mealkit.Hyperparameters):
    """The gradient boosting's settings."""

    learning_rate: float = Field(0.05, gt=0, le=1, description="shrinkage per tree")
    trees: int = Field(300, ge=1, le=5_000, description="boosting rounds at most")
    max_leaves: int = Field(6, ge=2, le=256, description="leaves per tree")
    min_samples_leaf: int = Field(100, ge=1, le=100_000, description="journeys in a leaf at least")
    l2: float = Field(10.0, ge=0, description="L2 regularisation of the leaves")
    early_stopping: bool = Field(True, description="stop when a held-back tenth of the training data stops improving")


class Event(mealkit.Row):
    """One event of the shop's log; the events of a visitor stand together."""

    visitor_id: int = Field(ge=0, description="the visitor, known by a cookie")
    session_id: int = Field(ge=0, description="the journey: events without a pause of half an hour")
    time: datetime = Field(description="when it happened, UTC")
    event: Literal["view", "search", "add_to_cart", "checkout", "order"]
    page: str = Field(description="kind of page: home, category, product, search, cart, checkout, confirmation")
    product: str | None = Field(None, description="the product that is viewed or put into the cart")
    price: float | None = Field(None, ge=0, description="its price in EUR")
    device: Literal["desktop", "mobile", "tablet"]
    referrer: Literal["direct", "search", "email", "social", "ads"] = Field(description="where the journey came from")


class Score(mealkit.Row):
    """One journey's score."""

    visitor_id: int
    session_id: int
    probability: float = Field(ge=0, le=1, description="that the journey ends in an order")
