"""Picture files: read and write them with all that belongs to a picture.

Most of the package needs only `array_io` (`read_image`, `write_image`), `formats` and `listing`. Photos that keep their
metadata and do not fit into memory go through `reader.Photo` and `writer.Writer`, used by `inference` and `damage`.
`metadata`, `exif`, `pillow_guard`, `jpeg_blocks`, `gif_palette` and the `png_...` modules are their parts; other rooms
use of them only the formats and sentences of `pillow_guard`.
"""
