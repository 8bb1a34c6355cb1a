"""A trained model at work: on arrays, photos, folders of photos, and video.

`load` gives a `session`, a loaded model; `photo` restores one file (`masks`, `previews`, `task`), `folder` many
(`microbatch`), `video` raw frames; `tiles` cuts what is too large, `inpainting` fills holes, `golden` checks a device. `training`, `exporting`, `benchmark` and `cli`
import from here.
"""
