"""The pack measured against itself, its own past and its peers; not in the wheel.

`paragon benchmark TOPIC` finds these modules in a checkout of the repository.
"""
