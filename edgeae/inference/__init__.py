"""A trained model at work: on arrays, photos, folders of photos, and video.

`load` opens a model as a `session`, which runs on an engine: `tinygrad_engine`, or the compiled one of `engine`. `api`
is the main job in one call. `photo` restores one file, `restoration` the rows of any `picture`, with `masks`
(`mask_meaning`, `mask_pairs`), `previews` and `task`; `folder` restores many that `collect` or `watch` names, small
ones together (`microbatch`); `video` restores raw frames. `tiles` cuts large images, `inpainting` fills masked holes,
`walk` interpolates, `golden` checks a device. `training`, `exporting`, `benchmark` and `cli` import from here.
"""
