"""Pictures made for people to look at: grids, comparisons, animations, charts.

`grids` arranges images under titles, `animations` writes GIF, WebP and APNG files, `charts` draws curves and
benchmark figures, `text` holds the font. `training`, `inference`, `benchmark` and `cli` import from here.
"""
