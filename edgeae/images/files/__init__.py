"""Picture files: reading and writing them with everything that belongs to the picture.

`reader` opens a photo row by row, `writer` writes a result in its place; `metadata` and `exif` carry what goes along,
`png` streams PNG files, `decoding` keeps Pillow safe.
"""
