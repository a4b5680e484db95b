"""The life of releases: where they are kept, which of them serves, and who said so.

A store holds the files, the topic `model-releases` says what serves: each change is a record there.
"""
