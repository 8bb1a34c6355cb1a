"""A trained model at work: on arrays, photos, folders of photos, and video.

`load` opens a model as a `session`, which runs on an engine: `tinygrad_engine`, or the compiled one of `engine`.
`photo` restores one file, `folder` many, `video` raw frames; `tiles` cuts large images, `inpainting` fills masked
holes, `golden` checks a device. `training`, `exporting`, `benchmark` and `cli` import from here.
"""
