"""Holes and what surrounds them: what a network is given in them."""
