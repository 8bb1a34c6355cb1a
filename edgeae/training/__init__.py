"""Training, and what is measured of a model: the loop, the optimizer, the run folder, scores.

`trainer` holds the jitted step and the loop around it; `evaluation` and `rate_distortion` score a model. Only
`exporting`, `benchmark` and `cli` import from here.
"""
