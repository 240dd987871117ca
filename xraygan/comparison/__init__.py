"""The classifier, the ways to rebalance it, and the comparison that decides between them."""
