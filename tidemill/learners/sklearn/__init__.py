"""Models that are fitted in one call: linear ones, and boosted trees."""
