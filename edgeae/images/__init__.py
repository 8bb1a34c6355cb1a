"""Images apart from any network: arrays, colours, metrics, files, drawing, damage.

`arrays` converts and resizes, `colours` maps a file's pixels to a network's, `metrics` compares. Picture files are in
`files/`, animations and charts in `drawing/`, damage in `damage/`. All rooms but `runtime` import from here.
"""
