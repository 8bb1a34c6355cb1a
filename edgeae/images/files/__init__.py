"""Picture files: read and write them with all that belongs to a picture.

Most of the package needs only `array_io` (`read_image`, `write_image`), `formats` and `listing`. Photos that keep
their metadata and do not fit into memory go through `reader.Photo` and `writer.Writer`, used by `inference` and
`damage`. What a photo carries besides its pixels is cleaned where it is read (`metadata`, with `exif_block`, `xmp`,
`photoshop`, `jpeg_segments`, `png_texts`): a result holds no copy of the picture as it was. `signatures` says by
content, `kinds` by name, what a file is that is no photo. The other modules are parts of the two, by format:
`jpeg_...`, `png_...`, `tiff_...`, `bmp`, `heif`, `gif_palette`; other rooms use of them `turns`, and the formats and
sentences of `pillow_guard`.
"""
