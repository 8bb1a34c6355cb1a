"""Damage to images: what training undoes, and `edgeae corrupt` does.

`spec` parses the names and strengths that users write, `kinds` holds one function a kind of damage, `harmonic` fills
holes smoothly from their edges.
"""
