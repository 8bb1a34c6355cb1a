"""Damage to images: what training teaches a network to undo, and what `edgeae corrupt` does to a file.

`spec` parses the SPEC that users write (`parse`), `kinds` holds one function for each kind of damage, `apply` damages
image files, `harmonic` fills holes smoothly from their edges. `cli`, `training` and `inference` use `parse`;
`inference` also uses `kinds.FILL`, `apply` and `harmonic`.
"""
