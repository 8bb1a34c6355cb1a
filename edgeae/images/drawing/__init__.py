"""Pictures made for people to look at: grids, comparisons, animations, charts.

`grids` arranges images under titles and writes animations; `charts` draws curves.
"""
