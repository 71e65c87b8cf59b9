"""Between source and buffer: what rules make of the readings, and what they leave out.

A block of series without rules goes through untouched, as the very same object. For the others, in this order:
renaming, scaling and mapping; thinning (deadband, swinging door, intervals); verdicts on how fresh a series is.

What is left out by a rule is counted (``thinned``) and was never handed over in the sense of
docs/specs/delivery.md: the promise begins behind this stage. What a rule holds back until it knows what follows lies
on disk, saved in the same transaction as the samples around it.
"""
