"""Images without any network: arrays, colours, metrics, files, drawing, damage. Knows nothing of tinygrad.

`arrays` holds the array types and converts and resizes, `colours` maps the pixels of a file to those of a network,
`metrics` compares two images, `scores` sums up a set of them. Sub-folders: `files` reads and writes picture files,
`drawing` makes pictures for people, `damage` damages images. Every room above imports from here.
"""
