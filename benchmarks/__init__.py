"""What a step costs: `make bench`. Ratios and spread, never an assertion."""
