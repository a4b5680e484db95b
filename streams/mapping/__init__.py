"""Your own topics: makes our events of records as the mapping file of `streams.settings.sources` says.

`translate` is the whole of it, a record at a time; `click_reader` reads plain clicks in JSON and Avro as
columns. It may import the wire contract, `streams.decoding` and `streams.kafka`, and no part of a worker.
"""
