"""Kafka: the Faust transport, the commit ledger, publishing, reading, partitioning and topics."""
