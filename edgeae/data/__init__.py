"""Datasets: images from folders, arrays, downloads or a generator, and the batches that training takes.

`datasets.open_dataset` is the way in: it lists a source (`sources`), loads the images and splits them; `batches`
damages and groups them. `inference` takes the generated faces from here; `training` and what is above it take all.
"""
