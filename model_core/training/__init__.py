"""From interactions to a release: the loop, its objective, and what is fitted beside it.

It imports every folder but language.
"""
