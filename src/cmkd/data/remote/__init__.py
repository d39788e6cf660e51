"""Packs at an address, such as ``s3://bucket/ships``: pushed in shards, and read in blocks through a bounded cache.

A pushed pack holds ``card.json`` and the index files of a pack, ``stream.json`` (`cmkd.data.remote.layout`), and
``objects/<sha256>``: the shards of the arrays and the checksums of their blocks. An object is named by its content and
never changes, so a push that is repeated sends only what is missing, and a new version of a pack only its new shards.
"""
