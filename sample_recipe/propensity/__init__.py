"""Purchase propensity for a web shop: from events to the probability that a journey ends in an order."""
