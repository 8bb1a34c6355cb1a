"""A trained model at work: on arrays, photos, folders of photos, and video.

`session` is a loaded model; `photo` restores one file, `folder` many, `video` raw frames; `tiles` cuts what is too
large, `inpainting` fills masked holes, `golden` checks a device. `training`, `exporting`, `benchmark` and `cli`
import from here.
"""
